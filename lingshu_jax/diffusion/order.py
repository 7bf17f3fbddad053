"""Which genes a reverse step reveals (paper section 6 leaves it open); importable without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestral:
    """Uniformly random genes, chosen before anything is predicted: exact for an exact denoiser, one gene at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """Every open gene is drawn, and those are kept whose draw was most probable. Not exact: rare tokens come last."""

    temperature: float = 1.0
    """Gumbel noise on the log-probabilities, falling to 0 with the share still masked; 0 keeps the most probable."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"order.temperature must be >= 0, got {self.temperature}.")


Order = Ancestral | Confidence
