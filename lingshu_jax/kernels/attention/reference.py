"""Attention in plain XLA: the reference of the semantics, and the implementation for CPU."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.rope import rotate

# B cells, N positions, C chunks of n queries each, H heads, K head size

_LOWEST = -1e30


@dataclasses.dataclass(frozen=True)
class Xla(Implementation):
    """The scores of one chunk of queries at a time, made again in the backward pass."""

    queries_at_once: int = 256
    """Rows of scores of a head that exist at a time: few enough to stay in cache."""

    def __post_init__(self) -> None:
        if self.queries_at_once < 1:
            raise ValueError(f"queries_at_once must be >= 1, got {self.queries_at_once}.")

    def __call__(self, q, k, v, segment_ids, rope):
        q, k, v = visible(q, k, v, segment_ids)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return _attention(-(-q.shape[1] // self.queries_at_once), q, k, v, segment_ids)


def visible(
    q: Float[Array, "B N H K"], k: Float[Array, "B N H K"], v: Float[Array, "B N H K"], segment_ids: Int[Array, "B N"]
) -> tuple[Float[Array, "B N H K"], Float[Array, "B N H K"], Float[Array, "B N H K"]]:
    """Zeros where the segment is 0, before any product: a NaN there would survive a mask applied later (0 * NaN)."""
    present = (segment_ids != 0)[:, :, None, None]
    return jnp.where(present, q, 0), jnp.where(present, k, 0), jnp.where(present, v, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(chunks, q, k, v, segment_ids):
    return _forward(chunks, q, k, v, segment_ids)[0]


def _forward(chunks, q, k, v, segment_ids):
    def one_chunk(chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        queries, segments = chunk
        allowed = _allowed(segments, segment_ids)
        scores = jnp.where(allowed, _scores(queries, k), _LOWEST)
        top = scores.max(axis=-1, keepdims=True)
        weights = jnp.where(allowed, jnp.exp(scores - top), 0.0)
        total = weights.sum(axis=-1, keepdims=True)
        total = jnp.where(total == 0.0, 1.0, total)
        # Divided last: once per query and dimension, not once per query and key.
        out = jnp.einsum("bhqs,bshk->bqhk", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return (out / jnp.moveaxis(total, 2, 1)).astype(v.dtype), jnp.moveaxis(top + jnp.log(total), 2, 1)[..., 0]

    split = [_split(x, chunks) for x in (q, segment_ids)]
    out, log_total = (_joined(x, q.shape[1]) for x in jax.lax.map(one_chunk, tuple(split)))
    return out, (q, k, v, segment_ids, out, log_total)


def _backward(chunks, residuals, d_out):
    q, k, v, segment_ids, out, log_total = residuals
    # A NaN in the gradient where nothing is goes nowhere.
    d_out = jnp.where((segment_ids != 0)[:, :, None, None], d_out, 0)
    mean = (d_out.astype(jnp.float32) * out).sum(axis=-1)  # of the weights' gradients, (B, N, H)

    def add_chunk(sums: tuple[Array, Array], chunk: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        queries, segments, d_chunk, mean, log_total = chunk
        by_head = [jnp.moveaxis(x, 1, 2)[..., None] for x in (mean, log_total)]  # (B, H, n, 1)
        weights = jnp.where(_allowed(segments, segment_ids), jnp.exp(_scores(queries, k) - by_head[1]), 0.0)
        d_weights = jnp.einsum("bqhk,bshk->bhqs", d_chunk, v, preferred_element_type=jnp.float32)
        d_scores = (weights * (d_weights - by_head[0]) * q.shape[-1] ** -0.5).astype(q.dtype)
        d_k = jnp.einsum("bhqs,bqhk->bshk", d_scores, queries, preferred_element_type=jnp.float32)
        d_v = jnp.einsum("bhqs,bqhk->bshk", weights.astype(v.dtype), d_chunk, preferred_element_type=jnp.float32)
        return (sums[0] + d_k, sums[1] + d_v), jnp.einsum("bhqs,bshk->bqhk", d_scores, k)

    zero = jnp.zeros(k.shape, jnp.float32)
    split = tuple(_split(x, chunks) for x in (q, segment_ids, d_out, mean, log_total))
    (d_k, d_v), d_q = jax.lax.scan(add_chunk, (zero, zero), split)
    return _joined(d_q, q.shape[1]), d_k.astype(k.dtype), d_v.astype(v.dtype), None


_attention.defvjp(_forward, _backward)


def _allowed(query_segments: Int[Array, "B n"], segment_ids: Int[Array, "B N"]) -> Array:
    """bool (B, 1, n, N)."""
    return ((query_segments[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :])[:, None]


def _scores(queries: Float[Array, "B n H K"], k: Float[Array, "B N H K"]) -> Float[Array, "B H n N"]:
    return jnp.einsum("bqhk,bshk->bhqs", queries, k, preferred_element_type=jnp.float32) * k.shape[-1] ** -0.5


def _split(array: Array, chunks: int) -> Array:
    """(B, N, ...) to (C, B, n, ...), padded with zeros."""
    size = -(-array.shape[1] // chunks)
    padding = [(0, 0)] * array.ndim
    padding[1] = (0, chunks * size - array.shape[1])
    padded = jnp.pad(array, padding)
    return jnp.moveaxis(padded.reshape(array.shape[0], chunks, size, *array.shape[2:]), 1, 0)


def _joined(array: Array, positions: int) -> Array:
    """Undo `_split`."""
    joined = jnp.moveaxis(array, 0, 1)
    return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :positions]
