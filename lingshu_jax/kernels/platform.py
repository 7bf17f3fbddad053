"""The platform that a program is being compiled for: what kernels choose by, while they are traced."""

from typing import Literal

import jax

Platform = Literal["cpu", "gpu", "tpu"]


def target_platform() -> Platform:
    """That of the mesh in context, which may be of devices elsewhere; without one, this process's own."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "tpu" if name == "tpu" else "cpu" if name == "cpu" else "gpu"
