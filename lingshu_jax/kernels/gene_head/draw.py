"""Categorical draws of every gene's token, one tile of logits at a time."""

# B cells, P patches, S genes per patch, V output tokens

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head.head import GeneHead
from lingshu_jax.kernels.gene_head.tiles import map_genes


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

    def plain(logits: Array, *, uniforms: Array) -> Array:
        return invert_cumulative(logits / temperature, uniforms)

    def guided(logits: Array, away_from: Array, *, uniforms: Array) -> Array:
        return plain(away_from + (guidance + 1.0) * (logits - away_from), uniforms=uniforms)

    if control is None:
        return map_genes(plain, (head,), uniforms=uniforms)
    return map_genes(guided, (head, control), uniforms=uniforms)


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
