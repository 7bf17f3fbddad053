"""Classifier-free guidance (paper section 6): away from control, or from no perturbation; importable without jax."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from lingshu_jax.vocabulary import CONTROL_ROW, NULL_ROW, ConditionVocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoGuidance:
    """Plain conditional sampling."""

    mixed: ClassVar[float] = 0.0

    def scale_at(self, step: int, steps: int) -> float:
        """Guidance scale w of reverse step 1, 2, ..., `steps`."""
        return 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AwayFrom:
    """logits = other + (scale + 1) * (conditional - other), `other` being those of another perturbation row."""

    row: ClassVar[int]
    scale: float = 2.0
    """w: 2 for genetic perturbation and 3 for cytokines in the paper; 0 is plain conditional sampling."""
    first_scale: float | None = None
    """w of the first guided step, from which it goes linearly to `scale` at the last; None keeps it constant."""
    skip_steps: int = 0
    """Reverse steps at the start that are not guided, so that the scale does not set the cell's depth."""
    mixed: float = 0.1
    """Share of the conditional distribution that is mixed into the other one, in [0, 1): no token's odds are raised by
    more than mixed ** -scale. 0 is the paper's formula as it stands; it needs logits that level off for large counts,
    which those of a start with depth do not."""

    def __post_init__(self) -> None:
        if not 0 <= self.mixed < 1:
            raise ValueError(f"guidance.mixed must be in [0, 1), got {self.mixed}.")
        if self.skip_steps < 0:
            raise ValueError(f"guidance.skip_steps must be >= 0, got {self.skip_steps}.")

    def scale_at(self, step: int, steps: int) -> float:
        """Guidance scale w of reverse step 1, 2, ..., `steps`."""
        if step <= self.skip_steps:
            return 0.0
        if self.first_scale is None or steps <= self.skip_steps + 1:
            return self.scale
        share = (step - self.skip_steps - 1) / (steps - self.skip_steps - 1)
        return self.first_scale + share * (self.scale - self.first_scale)


class ControlGuidance(_AwayFrom):
    """Away from the control condition of the same context: the paper's guidance."""

    row: ClassVar[int] = CONTROL_ROW


class NullGuidance(_AwayFrom):
    """Away from the null condition of the same context, for models trained with condition dropout."""

    row: ClassVar[int] = NULL_ROW


Guidance = NoGuidance | ControlGuidance | NullGuidance


def unperturbed(guidance: Guidance, conditions: Mapping[str, Any], vocabulary: ConditionVocabulary) -> dict[str, Any]:
    """The conditions to be guided away from: the same ones but for the perturbation.

    Raises:
        ValueError: the model has no perturbation field to guide.
    """
    assert isinstance(guidance, _AwayFrom)
    field = vocabulary.perturbation
    if field is None:
        raise ValueError("guidance needs a perturbation field, and this model has none. Use NoGuidance.")
    rows = conditions[field.name]
    if rows.ndim == 2:
        rows = rows[:, 0]
    return {**conditions, field.name: rows * 0 + guidance.row}
