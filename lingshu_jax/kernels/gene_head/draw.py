"""Categorical draws of listed genes: logits exist for the genes that are drawn, one slot at a time."""

# B cells, P patches, S genes per patch, C listed genes of a cell, R rows of one slot, V output tokens

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head.head import GeneHead, slot_logits
from lingshu_jax.kernels.gene_head.listed import over_slots
from lingshu_jax.kernels.shards import over_cells

Number = Float[Array, ""] | float


def draw_listed(
    head: GeneHead,
    place: Int[Array, "B C"],
    uniforms: Float[Array, "B C"],
    *,
    away_from: GeneHead | None = None,
    guidance: Number = 0.0,
    mixed: Number = 0.0,
    temperature: Number = 1.0,
    top_p: Number = 1.0,
) -> tuple[Int[Array, "B C"], Float[Array, "B C"]]:
    """Draw a token for every listed gene.

    Args:
        head: what the logits are made of.
        place: places `patch * S + slot` of the genes; one outside the layout stands for nothing.
        uniforms: in [0, 1), one per draw.
        away_from: guides (paper section 6): away_from + (guidance + 1) * (logits - away_from); same matrix and base.
        guidance: w.
        mixed: see `guided_logits`.
        temperature: see `draw_token`.
        top_p: see `draw_token`.

    Returns:
        The tokens, and the log-probability of each under the (guided) logits at temperature 1; 0 for nothing.
    """
    states = [head.states] if away_from is None else [head.states, away_from.states]
    tilts = [head.tilt] if away_from is None else [head.tilt, away_from.tilt]
    numbers = [jnp.asarray(x, jnp.float32) for x in (guidance, mixed, temperature, top_p)]
    return over_cells(_draw_listed, (states, tilts, place, uniforms), (head.matrix, head.base, numbers))


def _draw_listed(cells, shared):
    states, tilts, place, uniforms = cells
    matrix, base, (guidance, mixed, temperature, top_p) = shared
    layout = states[0].shape[1], matrix.shape[0]
    slots = {"index": jnp.arange(layout[1]), "matrix": matrix} | ({} if base is None else {"base": base})

    def draw_slot(carry, part, entry, cell, patch):
        def logits_of(state: Array, tilt: Array | None) -> Float[Array, "R V"]:
            picked = {"matrix": part["matrix"]}
            if base is not None:
                picked["base"] = part["base"].at[patch].get(mode="fill", fill_value=0)
            if tilt is not None:
                picked["tilt"] = tilt.at[cell, patch, part["index"]].get(mode="fill", fill_value=0)[None]
            rows = state.at[cell, patch].get(mode="fill", fill_value=0)
            return slot_logits(rows[None], picked)[0]

        logits = [logits_of(state, tilt) for state, tilt in zip(states, tilts, strict=True)]
        guided = logits[0] if len(logits) == 1 else guided_logits(logits[0], logits[1], guidance, mixed)
        row_uniforms = uniforms.reshape(-1).at[entry].get(mode="fill", fill_value=0)
        token = draw_token(guided, row_uniforms, temperature=temperature, top_p=top_p)
        hit = jnp.take_along_axis(guided, token[:, None], axis=-1)[:, 0]
        log_p = hit - jax.nn.logsumexp(guided, axis=-1)
        return carry[0].at[entry].set(token, mode="drop"), carry[1].at[entry].set(log_p, mode="drop")

    zero = jnp.zeros(place.size, jnp.int32), jnp.zeros(place.size, jnp.float32)
    tokens, log_p = over_slots(place, layout, slots, zero, draw_slot)
    return tokens.reshape(place.shape), log_p.reshape(place.shape)


def guided_logits(
    conditional: Float[Array, "... V"], other: Float[Array, "... V"], scale: Number, mixed: Number
) -> Float[Array, "... V"]:
    """other + (scale + 1) * (conditional - other): classifier-free guidance (paper section 6).

    Where `conditional` favours large counts with no upper end, as a negative binomial does, the difference grows with
    the count and the last token takes all. `mixed` > 0 puts that share of the conditional distribution into the other
    one first: no token's odds are then raised by more than mixed ** -scale.
    """

    def mix(other: Float[Array, "... V"]) -> Float[Array, "... V"]:
        mine, theirs = jax.nn.log_softmax(conditional), jax.nn.log_softmax(other)
        # Up to a constant per gene, which no draw sees, these stay logits of the model.
        shift = jax.nn.logsumexp(conditional, axis=-1, keepdims=True)
        return jnp.logaddexp(mine + jnp.log(mixed), theirs + jnp.log1p(-mixed)) + shift

    other = jax.lax.cond(jnp.asarray(mixed) > 0, mix, lambda logits: logits, other)
    return other + (scale + 1.0) * (conditional - other)


def draw_token(
    logits: Float[Array, "... V"], uniforms: Float[Array, "..."], *, temperature: Number = 1.0, top_p: Number = 1.0
) -> Int[Array, "..."]:
    """The token whose interval of the cumulative probabilities softmax(logits / temperature) holds the uniform.

    With `top_p` < 1 only the most probable tokens that together hold that share count. fp32; int32 out.
    """
    scaled = logits / temperature
    weights = jnp.exp(scaled - scaled.max(axis=-1, keepdims=True))
    weights = jax.lax.cond(jnp.asarray(top_p) < 1.0, lambda w: _most_probable(w, top_p), lambda w: w, weights)
    cumulative = jnp.cumsum(weights, axis=-1)
    below = cumulative <= uniforms[..., None] * cumulative[..., -1:]
    # A uniform that rounds up to 1 would fall past the end; the last token that has weight takes it.
    return jnp.minimum(below.sum(axis=-1, dtype=jnp.int32), _last_with_weight(weights))


def _most_probable(weights: Float[Array, "... V"], share: Number) -> Float[Array, "... V"]:
    """The smallest set of largest weights that holds the share, at least one; 0 elsewhere."""
    falling = -jnp.sort(-weights, axis=-1)
    before = jnp.cumsum(falling, axis=-1) - falling
    kept = (before < share * falling.sum(axis=-1, keepdims=True)).at[..., 0].set(True)
    smallest = jnp.where(kept, falling, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(weights >= smallest, weights, 0.0)


def _last_with_weight(weights: Float[Array, "... V"]) -> Int[Array, "..."]:
    positions = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    return jnp.where(weights > 0, positions, 0).max(axis=-1)
