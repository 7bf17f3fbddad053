"""The device mesh (data, fsdp, tensor) and how batches lie on it."""

import contextlib
import math
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lingshu_jax.parallel.config import MeshConfig

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh of a setting over all devices.

    Raises:
        ValueError: the sizes do not multiply to the number of devices; says which sizes would.
    """
    devices = list(jax.devices()) if devices is None else devices
    fixed = config.fsdp * config.tensor
    data = len(devices) // fixed if config.data is None else config.data
    sizes = (data, config.fsdp, config.tensor)
    if math.prod(sizes) != len(devices):
        raise ValueError(
            f"mesh (data, fsdp, tensor) = {sizes} needs {math.prod(sizes)} devices, there are {len(devices)}. "
            f"Leave mesh.data out, and make mesh.fsdp * mesh.tensor a divisor of {len(devices)}."
        )
    # Not jax.make_mesh: it refuses axes that do not follow the torus, as 8 of a 4 x 4 x 4 pod.
    arranged = mesh_utils.create_device_mesh(sizes, devices=devices, allow_split_physical_axes=True)
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over the data and fsdp axes."""
    return NamedSharding(mesh, P(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def check_batch(batch_size: int, mesh: Mesh, microbatches: int = 1) -> None:
    """Refuse a global batch that does not divide over the mesh, naming the nearest that does."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"] * microbatches
    if batch_size % shards:
        unit = math.lcm(shards, 32)
        nearest = sorted({max(unit, batch_size // unit * unit), (batch_size // unit + 1) * unit})
        parts = f" of each of {microbatches} microbatches" if microbatches > 1 else ""
        raise ValueError(
            f"batch_size {batch_size} does not divide over data * fsdp = {shards // microbatches} shards{parts}; "
            f"nearest: {', '.join(map(str, nearest))}."
        )


def to_global(batch: Any, mesh: Mesh) -> Any:
    """This process's rows of every array of a batch, as global arrays."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch)


def to_host(array: Any) -> np.ndarray:
    """The whole of an array that may lie on devices of other processes; every process must ask."""
    return np.asarray(array if array.is_fully_addressable else multihost_utils.process_allgather(array, tiled=True))


def compiled_for(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """While in this context, functions are compiled for the mesh: its platform, and kernels over its axes."""
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def mesh_of(arrays: Any) -> Mesh | None:
    """The mesh that a tree of arrays lies on; None for arrays without one."""
    for leaf in jax.tree.leaves(arrays):
        if isinstance(getattr(leaf, "sharding", None), NamedSharding):
            return leaf.sharding.mesh
    return None
