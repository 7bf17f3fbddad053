"""What an evaluation says against its model: baselines that beat it, conditions that fail, cells that look wrong."""

from collections.abc import Iterator

import numpy as np

from experiments.evaluation.results import Evaluation
from experiments.registry.scores import LOWER_IS_BETTER

MODEL = "model"
REFERENCES = frozenset({"real vs real", "model (generated controls)", "training_mean"})
"""Rows that are no rivals: they have seen the held-out condition, or are the model itself."""
WORST = 5
"""Conditions that are listed."""
_COLLAPSED, _MISCALIBRATED, _KS, _SPREAD = 0.5, 0.1, 0.1, 0.2


def limits(evaluation: Evaluation) -> list[str]:
    """One sentence each, from the numbers alone; [] where none speaks against the model."""
    return [
        *_bounds(evaluation),
        *_effects(evaluation),
        *_worst(evaluation),
        *_spread(evaluation),
        *_cells(evaluation),
        *_unscored(evaluation),
    ]


def _bounds(evaluation: Evaluation) -> Iterator[str]:
    for row in evaluation.bound:
        gap = row.difference
        if gap is None or gap.value is None:
            continue
        if gap.value >= 0:
            yield f"{row.name} explains held-out cells better, by {gap.value:.1f} nats per cell."
        elif gap.high is not None and gap.high >= 0:
            yield f"Held-out cells do not tell the model's likelihood from {row.name}'s."


def _effects(evaluation: Evaluation) -> Iterator[str]:
    rows = {row.name: row.metrics for row in evaluation.effects.rows} if evaluation.effects else {}
    mine = rows.pop(MODEL, {})
    for metric, estimate in mine.items():
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        others = {
            name: metrics[metric].value
            for name, metrics in rows.items()
            if name not in REFERENCES and metric in metrics and metrics[metric].value is not None
        }
        if estimate.value is None or not others:
            continue
        best = max(others, key=lambda name: sign * (others[name] or 0.0))
        value = others[best]
        if value is not None and sign * value > sign * estimate.value:
            yield f"{metric}: {best} reaches {value:.3f}, the model {estimate.value:.3f}."


def _worst(evaluation: Evaluation) -> Iterator[str]:
    found = []
    for row in evaluation.effects.conditions if evaluation.effects else ():
        value = row.metrics.get(MODEL, {}).get("pearson_delta")
        if row.scored and value is not None:
            found.append((value, f"{row.perturbation} in {row.context} ({value:.2f}, {row.n_real} real cells)"))
    if len(found) > WORST:
        yield f"Lowest Pearson-delta: {', '.join(text for _, text in sorted(found)[:WORST])}."


def _spread(evaluation: Evaluation) -> Iterator[str]:
    for row in evaluation.collapse:
        if row.name == MODEL and row.share < _COLLAPSED:
            yield f"Predictions depend little on the perturbation: {row.share:.2f} of the real variance between them."
    for row in evaluation.calibration:
        if row.name == MODEL and row.error > _MISCALIBRATED:
            yield f"Counts of genes with a mean count {row.level} are not calibrated (error {row.error:.2f})."


def _cells(evaluation: Evaluation) -> Iterator[str]:
    rows = {row.name: row.values for row in evaluation.cells}
    real, model = rows.get("real"), rows.get(MODEL)
    if not real or not model:
        return
    distance, spread, wanted = model.get("library_ks"), model.get("library_log_sd"), real.get("library_log_sd")
    if distance is not None and distance > _KS:
        yield f"Library sizes differ from the real ones: Kolmogorov-Smirnov distance {distance:.2f}."
    if spread is not None and wanted and abs(spread / wanted - 1) > _SPREAD:
        word = "more" if spread > wanted else "less"
        yield f"Library sizes vary {word} than the real ones: sd of the logarithm {spread:.2f}, real {wanted:.2f}."


def _unscored(evaluation: Evaluation) -> Iterator[str]:
    rows = evaluation.effects.conditions if evaluation.effects else ()
    reasons = [row.reason for row in rows if not row.scored]
    for reason, times in zip(*np.unique(reasons, return_counts=True), strict=True) if reasons else ():
        yield f"{times} of {len(rows)} conditions are not scored: {reason}."
