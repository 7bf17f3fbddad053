"""How many genes are revealed at each reverse step, and the settings of a sampler; importable without jax."""

import dataclasses
import math

import numpy as np

from lingshu_jax.diffusion.guidance import Guidance, NoGuidance


def _require_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a schedule needs at least 1 step, got {steps}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """The paper's schedule: after step k of K the masked share is cos(pi/2 * k/K)."""

    steps: int = 3
    """Reverse steps K, >= 1: 3 in the paper's conditional, 256 in its unconditional generation."""

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def masked_share(self, k: int) -> float:
        """Share of the open genes still masked after step k, in [0, 1]."""
        return math.cos(math.pi / 2 * k / self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeometricSchedule:
    """The revealed share grows geometrically, so that few genes settle depth and identity before the rest is drawn.

    With few cosine steps most genes are drawn at once, given little, and the spread of library sizes collapses.
    """

    steps: int = 8
    """Reverse steps K, >= 1."""
    first_share: float = 1e-3
    """Share of the open genes that the first step reveals, in (0, 1]."""

    def __post_init__(self) -> None:
        _require_steps(self.steps)
        if not 0.0 < self.first_share <= 1.0:
            raise ValueError(f"first_share must be in (0, 1], got {self.first_share}.")

    def masked_share(self, k: int) -> float:
        """Share of the open genes still masked after step k, in [0, 1]."""
        if k == 0:
            return 1.0
        if k == self.steps:
            return 0.0
        return 1.0 - self.first_share ** ((self.steps - k) / (self.steps - 1))


Schedule = CosineSchedule | GeometricSchedule


def masked_after(schedule: Schedule, k: int, open_genes: np.ndarray) -> np.ndarray:
    """Exact number of genes still masked after step k: floor(n * share(k)) for k < K, 0 for k = K; int32 (B,).

    Args:
        schedule: the schedule.
        k: reverse step, 0 (nothing revealed) to K (everything).
        open_genes: integer (B,), the number of genes to be drawn in each cell.
    """
    if k >= schedule.steps:
        return np.zeros(len(open_genes), np.int32)
    return np.floor(np.asarray(open_genes, np.float64) * schedule.masked_share(k)).astype(np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How cells are drawn: uniformly random order, an exact number of genes per step (paper section 6)."""

    schedule: Schedule = GeometricSchedule()
    """How many genes each step reveals."""
    guidance: Guidance = NoGuidance()
    """Classifier-free guidance against the control condition."""
    temperature: float = 1.0
    """Divides the logits before every draw, > 0."""
    cells_per_device: int = 32
    """Rows of every forward pass on each device; the last one is padded. Results depend on it in the last bits."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"sampler.temperature must be > 0, got {self.temperature}.")
        if self.cells_per_device < 1:
            raise ValueError(f"sampler.cells_per_device must be >= 1, got {self.cells_per_device}.")
