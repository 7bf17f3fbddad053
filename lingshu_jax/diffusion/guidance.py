"""Classifier-free guidance against the control condition (paper section 6); importable without jax."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lingshu_jax.vocabulary import CONTROL_ROW, ConditionVocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoGuidance:
    """Plain conditional sampling."""

    def scale_at(self, step: int) -> float:
        """Guidance scale w of reverse step 1, 2, ..."""
        return 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlGuidance:
    """logits = control + (scale + 1) * (conditional - control), the control condition being the same context's."""

    scale: float = 2.0
    """w: 2 for genetic perturbation and 3 for cytokines in the paper; 0 is plain conditional sampling."""
    skip_steps: int = 0
    """Reverse steps at the start that are not guided, so that the scale does not set the cell's depth."""

    def __post_init__(self) -> None:
        if self.skip_steps < 0:
            raise ValueError(f"guidance.skip_steps must be >= 0, got {self.skip_steps}.")

    def scale_at(self, step: int) -> float:
        """Guidance scale w of reverse step 1, 2, ..."""
        return 0.0 if step <= self.skip_steps else self.scale


Guidance = NoGuidance | ControlGuidance


def control_conditions(conditions: Mapping[str, Any], vocabulary: ConditionVocabulary) -> dict[str, Any]:
    """The same conditions with the perturbation, and only it, replaced by control.

    Raises:
        ValueError: the model has no perturbation field to guide.
    """
    field = vocabulary.perturbation
    if field is None:
        raise ValueError("guidance needs a perturbation field, and this model has none. Use NoGuidance.")
    rows = conditions[field.name]
    if rows.ndim == 2:
        rows = rows[:, 0]
    return {**conditions, field.name: rows * 0 + CONTROL_ROW}
