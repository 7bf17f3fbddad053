"""Mesh settings, importable without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the devices are arranged. The global batch does not depend on it."""

    data: int | None = None
    """Copies of the model, each with its own rows of the batch; None = all devices that the others leave."""
    fsdp: int = 1
    """Devices that share one copy of parameters and optimizer state, each with its own rows of the batch."""
    tensor: int = 1
    """Devices that share heads and feed-forward width; must divide both."""

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"mesh.{name} must be >= 1, got {size}.")
