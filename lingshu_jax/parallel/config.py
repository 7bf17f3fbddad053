"""Mesh settings, importable without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the devices are arranged; what is left out is chosen. The global batch does not depend on it."""

    data: int | None = None
    """Copies of the model, each with its own rows of the batch."""
    fsdp: int | None = None
    """Devices that share one copy of parameters and optimizer state, each with its own rows of the batch."""
    tensor: int | None = None
    """Devices that share heads, feed-forward width and positions of the same rows; must divide the first two."""

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"mesh.{name} must be >= 1, got {size}.")

    @property
    def sizes(self) -> tuple[int | None, int | None, int | None]:
        """(data, fsdp, tensor), None where it is left open."""
        return self.data, self.fsdp, self.tensor
