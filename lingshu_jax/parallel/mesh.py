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
    """The mesh of a setting over all devices; an fsdp or tensor that is left open is 1 (`choose_mesh` knows better).

    Raises:
        ValueError: the sizes do not multiply to the number of devices; says which sizes would.
    """
    devices = list(jax.devices()) if devices is None else devices
    fsdp, tensor = config.fsdp or 1, config.tensor or 1
    data = len(devices) // (fsdp * tensor) if config.data is None else config.data
    sizes = (data, fsdp, tensor)
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
