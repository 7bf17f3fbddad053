"""Categorical draws of every gene's token, one slot of logits at a time."""

# B cells, P patches, S genes per patch, V output tokens

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head.head import GeneHead, slot_logits


def draw_tokens(
    head: GeneHead,
    uniforms: Float[Array, "B P S"],
    *,
    temperature: Float[Array, ""] | float = 1.0,
    control: GeneHead | None = None,
    guidance: Float[Array, ""] | float = 0.0,
) -> Int[Array, "B P S"]:
    """Draw one token per gene from softmax(logits / temperature) by inverting its cumulative sum at the given uniforms.

    With `control` the logits are guided (paper section 6): control + (guidance + 1) * (logits - control).
    """

    def one_slot(slot: tuple[dict[str, Array], dict[str, Array], Array]) -> Array:
        parts, control_parts, slot_uniforms = slot
        logits = slot_logits(head.states, parts)
        if control is not None:
            away_from = slot_logits(control.states, control_parts)
            logits = away_from + (guidance + 1.0) * (logits - away_from)
        return invert_cumulative(logits / temperature, slot_uniforms)

    control_slots = {} if control is None else control.slots()
    drawn = jax.lax.map(one_slot, (head.slots(), control_slots, jnp.moveaxis(uniforms, 2, 0)))
    return jnp.moveaxis(drawn, 0, 2)


def invert_cumulative(logits: Float[Array, "... V"], uniforms: Float[Array, "..."]) -> Int[Array, "..."]:
    """The token whose interval of the cumulative probabilities holds the uniform in [0, 1); int32."""
    weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    cumulative = jnp.cumsum(weights, axis=-1)
    below = cumulative <= uniforms[..., None] * cumulative[..., -1:]
    # A uniform that rounds up to 1 would fall past the end; the last token that has weight takes it.
    return jnp.minimum(below.sum(axis=-1, dtype=jnp.int32), _last_with_weight(weights))


def _last_with_weight(weights: Float[Array, "... V"]) -> Int[Array, "..."]:
    positions = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    return jnp.where(weights > 0, positions, 0).max(axis=-1)
