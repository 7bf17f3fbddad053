"""How many genes are revealed at each reverse step (paper section 6); importable without jax."""

import dataclasses
import itertools
import math

import numpy as np


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSchedule:
    """The same number of genes in every step."""

    steps: int = 8
    """Reverse steps K, >= 1."""

    def __post_init__(self) -> None:
        _require_steps(self.steps)

    def masked_share(self, k: int) -> float:
        """Share of the open genes still masked after step k, in [0, 1]."""
        return 1.0 - k / self.steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class CustomSchedule:
    """Shares of one's own."""

    shares: tuple[float, ...] = (0.999, 0.99, 0.9, 0.5)
    """Share of the open genes still masked after step 1, 2, ...: falling, in (0, 1). One more step draws the rest."""

    def __post_init__(self) -> None:
        falling = (1.0, *self.shares, 0.0)
        if any(later >= earlier for earlier, later in itertools.pairwise(falling)):
            raise ValueError(f"schedule.shares must fall, each in (0, 1); got {self.shares}.")

    @property
    def steps(self) -> int:
        """Reverse steps K."""
        return len(self.shares) + 1

    def masked_share(self, k: int) -> float:
        """Share of the open genes still masked after step k, in [0, 1]."""
        return (1.0, *self.shares, 0.0)[k]


Schedule = CosineSchedule | GeometricSchedule | LinearSchedule | CustomSchedule


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
