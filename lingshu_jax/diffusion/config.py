"""The settings of a sampler; importable without jax."""

import dataclasses

from lingshu_jax.diffusion.guidance import Guidance, NoGuidance
from lingshu_jax.diffusion.order import Ancestral, Order
from lingshu_jax.diffusion.schedule import GeometricSchedule, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How cells are drawn: an order, and an exact number of genes per step (paper section 6)."""

    schedule: Schedule = GeometricSchedule()
    """How many genes each step reveals."""
    order: Order = Ancestral()
    """Which ones."""
    guidance: Guidance = NoGuidance()
    """Classifier-free guidance against the control or the null condition."""
    temperature: float = 1.0
    """Divides the logits before every draw, > 0."""
    top_p: float = 1.0
    """Draw from the most probable tokens that hold this share of the probability, in (0, 1]; 1 draws from all."""
    cells_per_device: int = 32
    """Rows of every forward pass on each device; the last one is padded. Results depend on it in the last bits."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"sampler.temperature must be > 0, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"sampler.top_p must be in (0, 1], got {self.top_p}.")
        if self.cells_per_device < 1:
            raise ValueError(f"sampler.cells_per_device must be >= 1, got {self.cells_per_device}.")
