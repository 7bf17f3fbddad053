"""A kernel over a mesh: cells over the batch axes, heads over the tensor axis, as XLA cannot split a custom call."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

BATCH, HEADS = ("data", "fsdp"), "tensor"
"""Axes of the mesh (`lingshu_jax.parallel`)."""


def over_mesh(
    function: Callable[..., Array],
    q: Float[Array, "B N H K"],
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    rope: Int[Array, "1 N"] | Int[Array, "B N"],
) -> Float[Array, "B N H K"]:
    """Run `function(q, k, v, segment_ids, rope)` on every device's cells and heads; at once where there is no mesh.

    The mesh is that of the context (`jax.set_mesh`). Axes that do not divide cells or heads are left out: there every
    device computes the same.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(q, k, v, segment_ids, rope)
    batch = tuple(axis for axis in BATCH if axis in mesh.shape)
    size = 1
    for axis in batch:
        size *= mesh.shape[axis]
    cells = batch if batch and q.shape[0] % size == 0 else None
    heads = HEADS if HEADS in mesh.shape and q.shape[2] % mesh.shape[HEADS] == 0 else None
    whole = P(cells, None, heads, None)
    places = P(cells if rope.shape[0] == q.shape[0] and q.shape[0] > 1 else None, None)
    return jax.shard_map(
        function,
        in_specs=(whole, whole, whole, P(cells, None), places),
        out_specs=whole,
        check_vma=False,  # pallas_call does not say over which axes its outputs vary
    )(q, k, v, segment_ids, rope)
