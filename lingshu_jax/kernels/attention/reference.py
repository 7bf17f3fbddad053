"""Attention in plain XLA: the reference of the semantics, and the implementation for CPU."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.rope import rotate

# B cells, N positions, n of them in a chunk of queries, H heads, K head size


@dataclasses.dataclass(frozen=True)
class Xla(Implementation):
    """All scores of a chunk of queries at a time; the backward pass computes them again, chunk by chunk."""

    queries_at_once: int = 1024
    """Rows of scores that exist at a time; up to so many positions there is one chunk, which keeps its weights."""

    def __call__(
        self,
        q: Float[Array, "B N H K"],
        k: Float[Array, "B N H K"],
        v: Float[Array, "B N H K"],
        segment_ids: Int[Array, "B N"],
        rope: Int[Array, "..."] | None,
    ) -> Float[Array, "B N H K"]:
        q, k, v = visible(q, k, v, segment_ids)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        positions = q.shape[1]
        chunks = -(-positions // self.queries_at_once)
        if chunks == 1:
            return _some_queries(k, v, segment_ids, q, segment_ids)
        size = -(-positions // chunks)
        queries, segments = _split(q, chunks, size), _split(segment_ids, chunks, size)
        one = jax.checkpoint(functools.partial(_some_queries, k, v, segment_ids), prevent_cse=False)
        out = jax.lax.map(lambda chunk: one(*chunk), (queries, segments))  # (chunks, B, n, H, K)
        return jnp.moveaxis(out, 0, 1).reshape(q.shape[0], chunks * size, *q.shape[2:])[:, :positions]


def visible(
    q: Float[Array, "B N H K"], k: Float[Array, "B N H K"], v: Float[Array, "B N H K"], segment_ids: Int[Array, "B N"]
) -> tuple[Float[Array, "B N H K"], Float[Array, "B N H K"], Float[Array, "B N H K"]]:
    """Zeros where the segment is 0, before any product: a NaN there would survive a mask applied later (0 * NaN)."""
    present = (segment_ids != 0)[:, :, None, None]
    return jnp.where(present, q, 0), jnp.where(present, k, 0), jnp.where(present, v, 0)


def _some_queries(
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    q: Float[Array, "B n H K"],
    query_segments: Int[Array, "B n"],
) -> Float[Array, "B n H K"]:
    allowed = (query_segments[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :]
    allowed = allowed[:, None]  # (B, 1, n, N)
    scores = jnp.einsum("bqhk,bshk->bhqs", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    weights = jnp.where(allowed, jnp.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / jnp.where(total == 0.0, 1.0, total)
    out = jnp.einsum("bhqs,bshk->bqhk", weights.astype(v.dtype), v)
    # Zero already where nothing is; said once more, so that a NaN in the gradient there goes nowhere.
    return jnp.where((query_segments != 0)[:, :, None, None], out, 0)


def _split(array: Array, chunks: int, size: int) -> Array:
    """(B, N, ...) to (chunks, B, n, ...), padded with zeros."""
    padding = [(0, 0)] * array.ndim
    padding[1] = (0, chunks * size - array.shape[1])
    padded = jnp.pad(array, padding)
    return jnp.moveaxis(padded.reshape(array.shape[0], chunks, size, *array.shape[2:]), 1, 0)
