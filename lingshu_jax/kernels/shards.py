"""Kernels over a mesh: what XLA cannot split by itself (custom calls, gathers, scatters), device by device."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

BATCH, HEADS = ("data", "fsdp"), "tensor"
"""Axes of the mesh (`lingshu_jax.parallel`)."""


def over_cells(function: Callable[..., Any], per_cell: Any, shared: Any) -> Any:
    """`function(per_cell, shared)` on every device's cells; at once without a mesh in context, or where cells do not
    divide.

    Args:
        function: returns arrays with a leading axis, of cells or of anything there is per device.
        per_cell: tree of arrays with a leading axis of cells.
        shared: tree of arrays that every device needs whole.
    """
    cells = cell_axes(jax.tree.leaves(per_cell)[0].shape[0])
    if cells is None:
        return function(per_cell, shared)
    return jax.shard_map(function, in_specs=(P(cells), P()), out_specs=P(cells), check_vma=False)(per_cell, shared)


def cell_axes(cells: int) -> tuple[str, ...] | None:
    """The axes of the mesh in context that so many cells are split over; None where they are not."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return None
    axes = tuple(axis for axis in BATCH if axis in mesh.shape)
    return axes if axes and cells % math.prod(mesh.shape[axis] for axis in axes) == 0 else None


def over_cells_and_heads(
    function: Callable[..., Array],
    q: Float[Array, "B N H K"],
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    rope: Int[Array, "1 N"] | Int[Array, "B N"],
) -> Float[Array, "B N H K"]:
    """`function(q, k, v, segment_ids, rope)` on every device's cells and heads.

    Axes that do not divide cells or heads are left out: there every device computes the same.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(q, k, v, segment_ids, rope)
    cells = cell_axes(q.shape[0])
    heads = HEADS if HEADS in mesh.shape and q.shape[2] % mesh.shape[HEADS] == 0 else None
    whole, by_cell = P(cells, None, heads, None), P(cells, None)
    return jax.shard_map(
        function,
        in_specs=(whole, whole, whole, by_cell, by_cell if rope.shape[0] == q.shape[0] > 1 else P()),
        out_specs=whole,
        check_vma=False,  # pallas_call does not say over which axes its outputs vary
    )(q, k, v, segment_ids, rope)
