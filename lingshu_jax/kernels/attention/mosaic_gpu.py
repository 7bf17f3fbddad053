"""Fused masked attention for NVIDIA Hopper GPUs in Pallas (Mosaic GPU): scores live in registers, never in memory.

One program is a warpgroup that computes one block of one head of one cell and streams the other side past it through
shared memory: keys and values past queries (forward, and the gradient of q), queries past keys (gradients of k and v).
XLA has to copy q, k and v out of their joint projection for any custom call; rotation, masking and padding ride on that
copy, and the inverse rotation on the one that takes the gradients back.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Bool, Float

from lingshu_jax.kernels.attention.implementation import Implementation, compiled_elsewhere
from lingshu_jax.kernels.attention.reference import visible
from lingshu_jax.kernels.attention.rope import by_cell, rotate
from lingshu_jax.kernels.shards import over_cells_and_heads

# B cells, N positions, M = N padded to whole blocks, H heads, K head size, n positions of a block

BLOCK = 64
"""Positions of a block: the rows of one warpgroup's matrix product."""
STAGES = 2
"""Blocks in flight: one is computed while the next is loaded."""
_LOWEST = -1e30
_LOG2_E = math.log2(math.e)


@dataclasses.dataclass(frozen=True)
class MosaicGpu(Implementation):
    """The kernel, sharded over batch and heads of the mesh in context; half precision, sums in fp32."""

    interpret: bool = False
    """Simulate it on any platform: memory, barriers and matrix products of the chip."""

    def unsupported(self, shape: tuple[int, ...], dtype: jnp.dtype) -> str | None:
        if shape[3] not in (64, 128):
            return f"a head of {shape[3]}; it computes heads of 64 and 128"
        if dtype not in (jnp.bfloat16, jnp.float16):
            return f"{dtype}; it computes in half precision"
        return None if self.interpret else compiled_elsewhere("gpu")

    def __call__(self, q, k, v, segment_ids, rope):
        run = functools.partial(_attention, self.interpret)
        return over_cells_and_heads(run, q, k, v, segment_ids, by_cell(rope, q.shape[1]))


def _attention(interpret, q, k, v, segment_ids, rope):
    """Everything around the kernels, differentiated by JAX; XLA fuses it into the copies that they need."""
    positions = q.shape[1]
    q, k, v = visible(q, k, v, segment_ids)
    more = -positions % BLOCK
    q, k, v = (_padded(x, more) for x in (rotate(q, rope), rotate(k, rope), v))
    segments = jnp.pad(segment_ids.astype(jnp.int32), ((0, 0), (0, more)))
    out: Array = _attend(interpret, q, k, v, segments)
    # Outputs are 0 there already; this keeps a NaN in their gradient from going anywhere.
    return jnp.where((segment_ids != 0)[:, :, None, None], out[:, :positions], 0)


def _padded(x: Float[Array, "B N H K"], more: int) -> Float[Array, "B M H K"]:
    return jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(interpret, q, k, v, segments):
    return _forward(interpret, q, k, v, segments)[0]


def _forward(interpret, q, k, v, segments):
    by_query = jax.ShapeDtypeStruct((q.shape[0], q.shape[2], q.shape[1]), jnp.float32)  # (B, H, M)
    out, log_total = _over_blocks(
        _forward_body,
        [q, k, v, segments],
        outputs=[q, by_query],
        scratch=[_block(q), _square(q), _vector(jnp.int32), _vector(jnp.float32)],
        loads=2,
        interpret=interpret,
    )
    return out, (q, k, v, segments, out, log_total)


def _backward(interpret, residuals, d_out):
    q, k, v, segments, out, log_total = residuals
    mean = jnp.einsum("bqhk,bqhk->bhq", d_out, out, preferred_element_type=jnp.float32)  # of the weights' gradients
    inputs = [q, k, v, segments, d_out, log_total, mean]
    floats = [_vector(jnp.float32)] * 2
    (d_q,) = _over_blocks(
        _d_queries_body,
        inputs,
        outputs=[q],
        scratch=[_block(q), _block(q), _square(q), _vector(jnp.int32), *floats],
        loads=5,
        interpret=interpret,
    )
    d_k, d_v = _over_blocks(
        _d_keys_body,
        inputs,
        outputs=[k, v],
        scratch=[_block(q), _block(q), _square(q), _square(q), _vector(jnp.int32)],
        loads=3,
        interpret=interpret,
    )
    return d_q, d_k, d_v, None


_attend.defvjp(_forward, _backward)


def _over_blocks(
    body: Callable[..., None],
    inputs: Sequence[Array],
    *,
    outputs: Sequence[Any],
    scratch: Sequence[Any],
    loads: int,
    interpret: bool,
) -> Sequence[Array]:
    """`body(*inputs, *outputs, *scratch, barrier)` in one program per block, head and cell.

    The barrier opens when so many `loads` have arrived.
    """
    cells, positions, heads, _ = inputs[0].shape
    return plgpu.kernel(
        body,
        out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
        scratch_types=[*scratch, plgpu.Barrier(num_arrivals=loads)],
        grid=(heads, positions // BLOCK, cells),
        grid_names=("heads", "blocks", "cells"),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Warpgroup),
        interpret=plgpu.InterpretGPUParams() if interpret else None,
    )(*inputs)


def _forward_body(q, k, v, segments, out, log_total, queries, weights, segment, total, barrier):
    cell, head, rows = _here()
    _load([(q.at[cell, rows, head], queries), (segments.at[cell, rows], segment)], barrier)

    def one_block(_, keys, values, key_segment, carry):
        acc, top, mass = carry
        allowed = _allowed(segment, key_segment)
        scores = jnp.where(allowed, _product(queries, keys.transpose((1, 0))) * _scale(q), _LOWEST)
        new_top = jnp.maximum(top, scores.max(axis=1))
        shrink = jnp.exp2(top - new_top)
        weight = jnp.where(allowed, jnp.exp2(scores - _over_columns(new_top)), 0.0)
        weights[...] = weight.astype(weights.dtype)
        plgpu.commit_smem()
        acc = acc * lax.broadcast_in_dim(shrink, acc.shape, (0,)) + _product(weights, values)
        plgpu.commit_smem()  # all warps have read the block before it is loaded again
        return acc, new_top, mass * shrink + weight.sum(axis=1)

    nothing = jnp.zeros(queries.shape, jnp.float32), jnp.full((BLOCK,), _LOWEST), jnp.zeros((BLOCK,))
    acc, top, mass = _stream(one_block, [k.at[cell, :, head], v.at[cell, :, head], segments.at[cell]], nothing)
    mass = jnp.where(mass == 0.0, 1.0, mass)
    queries[...] = (acc / lax.broadcast_in_dim(mass, acc.shape, (0,))).astype(queries.dtype)
    total[...] = top + jnp.log2(mass)
    _store([(queries, out.at[cell, rows, head]), (total, log_total.at[cell, head, rows])])


def _d_queries_body(
    q, k, v, segments, d_out, log_total, mean, d_q, queries, d_here, d_scores, segment, total, mean_here, barrier
):
    cell, head, rows = _here()
    whole, by_query = (cell, rows, head), (cell, head, rows)
    _load(
        [
            (q.at[whole], queries),
            (d_out.at[whole], d_here),
            (segments.at[cell, rows], segment),
            (log_total.at[by_query], total),
            (mean.at[by_query], mean_here),
        ],
        barrier,
    )

    def one_block(_, keys, values, key_segment, acc):
        scores = _product(queries, keys.transpose((1, 0))) * _scale(q)
        weight = jnp.where(_allowed(segment, key_segment), jnp.exp2(scores - _over_columns(total[...])), 0.0)
        d_weight = _product(d_here, values.transpose((1, 0)))
        d_scores[...] = (weight * (d_weight - _over_columns(mean_here[...]))).astype(d_scores.dtype)
        plgpu.commit_smem()
        acc = acc + _product(d_scores, keys)
        plgpu.commit_smem()
        return acc

    nothing = jnp.zeros(queries.shape, jnp.float32)
    acc = _stream(one_block, [k.at[cell, :, head], v.at[cell, :, head], segments.at[cell]], nothing)
    queries[...] = (acc * q.shape[-1] ** -0.5).astype(queries.dtype)
    _store([(queries, d_q.at[whole])])


def _d_keys_body(
    q, k, v, segments, d_out, log_total, mean, d_k, d_v, keys, values, weights, d_scores, segment, barrier
):
    """Scores stand the other way round here: rows are keys, columns are queries."""
    cell, head, rows = _here()
    whole = (cell, rows, head)
    _load([(k.at[whole], keys), (v.at[whole], values), (segments.at[cell, rows], segment)], barrier)

    def one_block(_, queries, d_here, query_segment, total, mean_here, carry):
        d_keys, d_values = carry
        scores = _product(keys, queries.transpose((1, 0))) * _scale(q)
        weight = jnp.where(_allowed(segment, query_segment), jnp.exp2(scores - _over_rows(total[...])), 0.0)
        d_weight = _product(values, d_here.transpose((1, 0)))
        weights[...] = weight.astype(weights.dtype)
        d_scores[...] = (weight * (d_weight - _over_rows(mean_here[...]))).astype(d_scores.dtype)
        plgpu.commit_smem()
        d_keys, d_values = d_keys + _product(d_scores, queries), d_values + _product(weights, d_here)
        plgpu.commit_smem()
        return d_keys, d_values

    nothing = jnp.zeros(keys.shape, jnp.float32), jnp.zeros(values.shape, jnp.float32)
    by_query = [log_total.at[cell, head], mean.at[cell, head]]
    past = [q.at[cell, :, head], d_out.at[cell, :, head], segments.at[cell], *by_query]
    d_keys, d_values = _stream(one_block, past, nothing)
    keys[...] = (d_keys * q.shape[-1] ** -0.5).astype(keys.dtype)
    values[...] = d_values.astype(values.dtype)
    _store([(keys, d_k.at[whole]), (values, d_v.at[whole])])


def _here() -> tuple[Array, Array, Any]:
    """This program's cell, head and positions."""
    return lax.axis_index("cells"), lax.axis_index("heads"), pl.ds(lax.axis_index("blocks") * BLOCK, BLOCK)


def _load(pairs: Sequence[tuple[Any, Any]], barrier: Any) -> None:
    for source, target in pairs:
        plgpu.copy_gmem_to_smem(source, target, barrier)
    plgpu.barrier_wait(barrier)


def _store(pairs: Sequence[tuple[Any, Any]]) -> None:
    plgpu.commit_smem()
    for source, target in pairs:
        plgpu.copy_smem_to_gmem(source, target)
    plgpu.wait_smem_to_gmem(0)


def _stream(one_block: Callable[..., Any], inputs: Sequence[Any], carry: Any) -> Any:
    """Fold over blocks of positions: `carry = one_block(index, *blocks in shared memory, carry)`."""

    def spec(x: Any) -> plgpu.BlockSpec:
        if len(x.shape) == 1:
            return plgpu.BlockSpec((BLOCK,), lambda j: (j,))
        return plgpu.BlockSpec((BLOCK, x.shape[1]), lambda j: (j, 0))

    blocks = inputs[0].shape[0] // BLOCK
    return plgpu.emit_pipeline(
        one_block,
        grid=(blocks,),
        in_specs=[spec(x) for x in inputs],
        max_concurrent_steps=min(STAGES, blocks),
        init_carry=carry,
    )(*inputs)


def _product(a: Any, b: Any) -> Float[Array, "n m"]:
    """a @ b of two blocks in shared memory, fp32."""

    def multiply(total: Any) -> Array:
        plgpu.wgmma(total, a, b)
        return total[...]

    return pl.run_scoped(multiply, plgpu.ACC((a.shape[0], b.shape[1]), jnp.float32))


def _allowed(rows: Any, columns: Any) -> Bool[Array, "n n"]:
    by_column = _over_rows(columns[...])
    return (_over_columns(rows[...]) == by_column) & (by_column != 0)


def _over_columns(x: Array) -> Array:
    """One value per row to (n, n)."""
    return lax.broadcast_in_dim(x, (BLOCK, BLOCK), (0,))


def _over_rows(x: Array) -> Array:
    """One value per column to (n, n)."""
    return lax.broadcast_in_dim(x, (BLOCK, BLOCK), (1,))


def _scale(x: Any) -> float:
    """Of scores whose exponential is taken to base 2."""
    return x.shape[-1] ** -0.5 * _LOG2_E


def _block(x: Array) -> Any:
    return plgpu.SMEM((BLOCK, x.shape[-1]), x.dtype)


def _square(x: Array) -> Any:
    return plgpu.SMEM((BLOCK, BLOCK), x.dtype)


def _vector(dtype: Any) -> Any:
    return plgpu.SMEM((BLOCK,), dtype)
