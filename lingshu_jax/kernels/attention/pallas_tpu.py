"""Fused masked attention for TPU in Pallas: a head's keys and values stay on the chip, scores never leave it.

One program computes one head of one cell. Its keys and values are rotated and masked once, as they are loaded; then
blocks of queries see all of them at a time. The backward pass computes the weights again from q, k and v alone, and
makes dq, dk and dv in one go: five products per block.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.implementation import Implementation, compiled_elsewhere
from lingshu_jax.kernels.attention.rope import by_cell, cos_and_sin
from lingshu_jax.kernels.shards import over_cells_and_heads

# B cells, N positions, M = N padded to whole blocks, H heads, K head size, n queries of a block

BLOCK = 128
"""Queries of a block; positions are padded to a multiple of it."""
LONGEST = 2304
"""Positions whose keys, values and one block of scores fit on a chip."""
_MEMORY_ON_CHIP = 32 * 2**20
"""Bytes a program may use; 2,304 positions in fp32 need 18 MB."""
_LOWEST = -0.7 * float(jnp.finfo(jnp.float32).max)


@dataclasses.dataclass(frozen=True)
class PallasTpu(Implementation):
    """The kernel, sharded over batch and heads of the mesh in context."""

    interpret: bool = False
    """Run it in the interpreter of Pallas, on any platform."""

    def unsupported(self, shape: tuple[int, ...], dtype: jnp.dtype) -> str | None:
        if shape[1] > LONGEST:
            return f"{shape[1]} positions; the rows of a head must fit on a chip: at most {LONGEST}"
        return None if self.interpret else compiled_elsewhere("tpu")

    def __call__(self, q, k, v, segment_ids, rope):
        run = functools.partial(_attention, self.interpret)
        return over_cells_and_heads(run, q, k, v, segment_ids, by_cell(rope, q.shape[1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(interpret, q, k, v, segment_ids, rope):
    inputs, specs = _inputs(q, k, v, segment_ids, rope)
    out = _call(_forward_kernel, inputs, specs, q, outputs=1, interpret=interpret, name="attention_forward")
    return _unpadded(out[0], q)


def _attention_forward(interpret, q, k, v, segment_ids, rope):
    return _attention(interpret, q, k, v, segment_ids, rope), (q, k, v, segment_ids, rope)


def _attention_backward(interpret, residuals, d_out):
    q, k, v, segment_ids, rope = residuals
    inputs, specs = _inputs(q, k, v, segment_ids, rope, d_out.astype(q.dtype))
    gradients = _call(
        _backward_kernel, inputs, specs, q, outputs=3, sums=2, interpret=interpret, name="attention_backward"
    )
    return *(_unpadded(gradient, q) for gradient in gradients), None, None


_attention.defvjp(_attention_forward, _attention_backward)


def _inputs(
    q: Array, k: Array, v: Array, segment_ids: Array, rope: Array, *more: Array
) -> tuple[list[Array], list[pl.BlockSpec]]:
    """Arrays as a program loads them, and which part it loads: heads before positions, positions padded with segment 0.

    Segments come as a column and as a row: the mask of a block is their comparison.
    """
    length = -(-q.shape[1] // BLOCK) * BLOCK
    heads = [_padded(jnp.moveaxis(x, 2, 1), 2, length) for x in (q, k, v, *more)]
    segments = _padded(segment_ids.astype(jnp.int32), 1, length)
    cos, sin = (_padded(jnp.concatenate([x, x], axis=-1), 1, length) for x in cos_and_sin(rope, q.shape[3] // 2))
    one_for_all = rope.shape[0] == 1
    angles = pl.BlockSpec((None, length, q.shape[3]), lambda b, h: (0 if one_for_all else b, 0, 0))
    column = pl.BlockSpec((None, length, 1), lambda b, h: (b, 0, 0))
    row = pl.BlockSpec((None, 1, length), lambda b, h: (b, 0, 0))
    return (
        [segments[:, :, None], segments[:, None, :], cos, sin, *heads],
        [column, row, angles, angles, *[_head_spec(length, q.shape[3])] * len(heads)],
    )


def _call(
    kernel: Any,
    inputs: Sequence[Array],
    specs: Sequence[pl.BlockSpec],
    q: Array,
    *,
    outputs: int,
    sums: int = 0,
    interpret: bool,
    name: str,
) -> list[Array]:
    """Run a kernel over all cells and heads; outputs are (B, H, M, K) in the dtype of q."""
    cells, _, heads, size = q.shape
    length = inputs[0].shape[1]
    memory = [pltpu.VMEM((length, size), q.dtype)] + [pltpu.VMEM((length, size), jnp.float32)] * sums
    return pl.pallas_call(
        functools.partial(kernel, scale=size**-0.5),
        grid=(cells, heads),
        in_specs=list(specs),
        out_specs=[_head_spec(length, size)] * outputs,
        out_shape=[jax.ShapeDtypeStruct((cells, heads, length, size), q.dtype)] * outputs,
        scratch_shapes=memory,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=_MEMORY_ON_CHIP
        ),
        interpret=interpret,
        name=name,
    )(*inputs)


def _head_spec(length: int, size: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, length, size), lambda b, h: (b, h, 0, 0))


def _forward_kernel(segment, segment_row, cos, sin, q, k, v, out, keys, *, scale):
    present = segment[...] != 0
    keys[...] = _rotated(jnp.where(present, k[...], 0), cos[...], sin[...])
    values = jnp.where(present, v[...], 0)

    def one_block(i: Array, _: None) -> None:
        block = pl.ds(pl.multiple_of(i * BLOCK, BLOCK), BLOCK)
        queries = _queries(segment, cos, sin, q, block)
        weights = _weights(queries, keys[...], segment[block, :], segment_row[...], scale)
        out[block, :] = _dot(weights.astype(values.dtype), values).astype(out.dtype)

    jax.lax.fori_loop(0, q.shape[0] // BLOCK, one_block, None)


def _backward_kernel(segment, segment_row, cos, sin, q, k, v, d_out, dq, dk, dv, keys, dk_sum, dv_sum, *, scale):
    present = segment[...] != 0
    keys[...] = _rotated(jnp.where(present, k[...], 0), cos[...], sin[...])
    values = jnp.where(present, v[...], 0)
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)

    def one_block(i: Array, _: None) -> None:
        block = pl.ds(pl.multiple_of(i * BLOCK, BLOCK), BLOCK)
        queries = _queries(segment, cos, sin, q, block)
        d_values = jnp.where(segment[block, :] != 0, d_out[block, :], 0)
        weights = _weights(queries, keys[...], segment[block, :], segment_row[...], scale)
        dv_sum[...] += _dot(weights.astype(values.dtype), d_values, contract=(0, 0))
        d_weights = _dot(d_values, values, contract=(1, 1))
        mean = (weights * d_weights).sum(axis=1, keepdims=True)
        d_scores = (weights * (d_weights - mean) * scale).astype(queries.dtype)
        dk_sum[...] += _dot(d_scores, queries, contract=(0, 0))
        d_queries = _dot(d_scores, keys[...])
        dq[block, :] = _rotated(d_queries, cos[block, :], -sin[block, :]).astype(dq.dtype)

    jax.lax.fori_loop(0, q.shape[0] // BLOCK, one_block, None)
    dk[...] = _rotated(dk_sum[...], cos[...], -sin[...]).astype(dk.dtype)
    dv[...] = dv_sum[...].astype(dv.dtype)


def _queries(segment: Any, cos: Any, sin: Any, q: Any, block: Any) -> Float[Array, "n K"]:
    return _rotated(jnp.where(segment[block, :] != 0, q[block, :], 0), cos[block, :], sin[block, :])


def _weights(
    queries: Float[Array, "n K"],
    keys: Float[Array, "M K"],
    segment: Int[Array, "n 1"],
    segment_row: Int[Array, "1 M"],
    scale: float,
) -> Float[Array, "n M"]:
    """Softmax over the allowed keys, fp32; all 0 where none is allowed."""
    allowed = (segment == segment_row) & (segment_row != 0)
    scores = jnp.where(allowed, _dot(queries, keys, contract=(1, 1)) * scale, _LOWEST)
    weights = jnp.where(allowed, jnp.exp(scores - scores.max(axis=1, keepdims=True)), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return weights / jnp.where(total == 0.0, 1.0, total)


def _rotated(x: Float[Array, "n K"], cos: Float[Array, "n K"], sin: Float[Array, "n K"]) -> Float[Array, "n K"]:
    """Rotate both halves; minus sin rotates back. Halves change places by a product with a signed permutation."""
    size = x.shape[1]
    source = jax.lax.broadcasted_iota(jnp.int32, (size, size), 0)
    target = jax.lax.broadcasted_iota(jnp.int32, (size, size), 1)
    swap = jnp.where(source == target + size // 2, -1.0, jnp.where(source == target - size // 2, 1.0, 0.0))
    return (x.astype(jnp.float32) * cos + _dot(x, swap.astype(x.dtype)) * sin).astype(x.dtype)


def _dot(x: Array, y: Array, contract: tuple[int, int] = (1, 0)) -> Float[Array, "..."]:
    exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        x, y, (((contract[0],), (contract[1],)), ((), ())), precision=exact, preferred_element_type=jnp.float32
    )


def _padded(x: Array, axis: int, length: int) -> Array:
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, padding)


def _unpadded(x: Float[Array, "B H M K"], q: Float[Array, "B N H K"]) -> Float[Array, "B N H K"]:
    return jnp.moveaxis(x[:, :, : q.shape[1]], 1, 2)
