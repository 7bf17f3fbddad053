"""Attention in plain XLA: the reference of the semantics, and the implementation for CPU."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.rope import rotate


def xla_attention(
    q: Float[Array, "B N H K"],
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    rope: Int[Array, "..."] | None,
) -> Float[Array, "B N H K"]:
    """See `attention`. Holds the (B, H, N, N) scores."""
    # Zeroed before any product: a NaN there would survive a mask applied later, as 0 * NaN.
    present = (segment_ids != 0)[:, :, None, None]
    q, k, v = (jnp.where(present, x, 0) for x in (q, k, v))
    if rope is not None:
        q, k = rotate(q, rope), rotate(k, rope)
    allowed = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :]
    allowed = allowed[:, None]  # (B, 1, N, N)
    scores = jnp.einsum("bqhk,bshk->bhqs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.where(allowed, jnp.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / jnp.where(total == 0.0, 1.0, total)
    return jnp.einsum("bhqs,bshk->bqhk", weights.astype(v.dtype), v)
