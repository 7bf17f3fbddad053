"""How large the predicted effects of perturbations without training cells are, beside those of seen ones."""

# L labels, G genes

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.simulation.conditions import Unseen, vocabulary_rows
from experiments.simulation.forward import forward_cells
from lingshu_jax.tokens import MASK
from lingshu_jax.vocabulary import ConditionField

if TYPE_CHECKING:
    from experiments.load import LoadedRun

WEAK = 0.2
"""Share of a seen perturbation's predicted effect below which the features tell next to nothing."""
SEEN_LABELS = 64
"""At most so many labels with training cells are compared with."""
TARGET_SUM = 10_000.0
"""Mean counts are scaled to so many a cell before log1p."""
_NAMED = 8
_ROWS = 8


@dataclasses.dataclass(frozen=True)
class UnseenEffects:
    """Predicted effect sizes of perturbations without training cells, over the median of seen ones, in one context."""

    context: tuple[str, ...]
    ratios: dict[str, float]
    """By label."""

    @property
    def weak(self) -> list[str]:
        """Labels below WEAK, the weakest first."""
        return sorted((label for label, ratio in self.ratios.items() if ratio < WEAK), key=self.ratios.__getitem__)

    def __str__(self) -> str:
        """One line."""
        found = np.array(list(self.ratios.values()))
        spread = f" (median; {found.min():.2f} to {found.max():.2f})" if len(found) > 1 else ""
        where = f" in {' x '.join(self.context)}" if self.context else ""
        what = f"{len(found)} unseen perturbations" if len(found) > 1 else f"unseen {next(iter(self.ratios))}"
        return f"predicted effect of {what}{where}: {np.median(found):.2f} of that of seen ones{spread}"

    @property
    def warning(self) -> str | None:
        """One line where effects are weak; None where none is."""
        weak = self.weak
        if not weak:
            return None
        named = ", ".join(f"{label} ({self.ratios[label]:.2f})" for label in weak[:_NAMED])
        more = f" and {len(weak) - _NAMED} more" if len(weak) > _NAMED else ""
        return (
            f"the predicted effect of {named}{more} is below {WEAK:g} of that of seen perturbations: their target "
            "features tell the model next to nothing, and such cells are little more than controls."
        )

    def to_json(self) -> dict[str, Any]:
        return {"context": list(self.context), "ratios": {label: round(r, 3) for label, r in self.ratios.items()}}


def unseen_effects(run: "LoadedRun", labels: pd.DataFrame, unseen: Unseen) -> UnseenEffects | None:
    """Effect sizes of the unseen perturbations among some conditions; None where there is none to go by features.

    The size is the norm over genes of the change of log1p mean count (scaled to 10,000 a cell) from control, predicted
    with every gene masked. All are predicted in one context, that of the first condition with such a label; up to
    SEEN_LABELS labels with training cells are compared with. Guidance and priors do not count.

    Args:
        run: the run.
        labels: a column per condition field (C rows), as text.
        unseen: the policy.
    """
    field = run.plan.vocabulary.perturbation
    if field is None or unseen != "features":
        return None
    wanted = [label for label in dict.fromkeys(labels[field.name]) if _is_unseen(label, field)]
    if not wanted or not field.labels:
        return None
    first: Any = labels[labels[field.name] == wanted[0]].iloc[0]
    every = np.linspace(0, len(field.labels) - 1, min(SEEN_LABELS, len(field.labels))).astype(int)
    seen = [field.labels[i] for i in np.unique(every)]
    asked = pd.DataFrame([first] * (1 + len(seen) + len(wanted)), columns=labels.columns)
    asked[field.name] = [field.controls[0], *seen, *wanted]
    rows = vocabulary_rows(asked, unseen, run)
    masked = forward_cells(
        run, "expected_counts", _all_masked(run.model.genes), rows, len(asked), cells_per_device=_ROWS
    )
    means = masked.astype(np.float64)
    expression = np.log1p(means * (TARGET_SUM / means.sum(axis=1, keepdims=True)))
    sizes = np.linalg.norm(expression[1:] - expression[0], axis=1)
    of_seen = max(float(np.median(sizes[: len(seen)])), 1e-12)
    ratios = dict(zip(wanted, (sizes[len(seen) :] / of_seen).tolist(), strict=True))
    return UnseenEffects(tuple(first[known.name] for known in run.plan.vocabulary.contexts), ratios)


def _is_unseen(label: str, field: ConditionField) -> bool:
    return any(member not in field.labels and not field.is_control(member) for member in field.members(label))


def _all_masked(genes: int) -> Any:
    return lambda cells: np.full((len(cells), genes), MASK, np.int32)
