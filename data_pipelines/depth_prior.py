"""What a cell's labels tell of its library size: additive effects on mean and spread of the log size factor."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lingshu_jax.vocabulary import CONTROL_ROW, ConditionField, ConditionVocabulary

SHRINKAGE_CELLS = 5.0
"""A label's effect on the mean is shrunk as if it had this many more cells of effect 0."""
SPREAD_SHRINKAGE_CELLS = 20.0
"""The same for its effect on the log of the variance, which few cells tell badly."""
SMALLEST_VARIANCE = 1e-3
_SWEEPS = 30


@dataclasses.dataclass(frozen=True)
class ConditionSizes:
    """Log size factors of the training cells of one condition."""

    cells: int
    mean: float
    variance: float


@dataclasses.dataclass(frozen=True, eq=False)
class DepthPrior:
    """log size factor = sum of mean effects, with variance `log_variance * exp(sum of spread effects)`."""

    mean_effects: dict[str, np.ndarray]
    """Per field, float64 (rows,). The mean over training cells of exp(sum of effects) is 1; the null row has 0."""
    spread_effects: dict[str, np.ndarray]
    """Per field, float64 (rows,); the null row has 0."""
    log_variance: float
    """Variance that the mean effects leave, pooled over training cells."""


def fit_depth_prior(
    conditions: Mapping[tuple[str, ...], ConditionSizes], fields: tuple[str, ...], vocabulary: ConditionVocabulary
) -> DepthPrior:
    """Fit the effects of the vocabulary's fields of labels to training conditions (labels in the order of `fields`)."""
    cells, mean, variance = (
        np.array([getattr(sizes, name) for sizes in conditions.values()], np.float64)
        for name in ("cells", "mean", "variance")
    )
    rows = {
        field.name: np.array([_row(field, labels[fields.index(field.name)]) for labels in conditions])
        for field in vocabulary.labelled
    }
    lengths = {field.name: field.rows for field in vocabulary.labelled}
    centred = mean - np.average(mean, weights=cells)
    _, fitted = _additive(centred, cells, rows, lengths, SHRINKAGE_CELLS)
    # The conditions' own variance, and what the effects miss of their means.
    left = variance + (centred - fitted) ** 2
    pooled = float(np.average(left, weights=cells))
    log_left = np.log(np.maximum(left, SMALLEST_VARIANCE)) - np.log(max(pooled, SMALLEST_VARIANCE))
    spread, log_spread = _additive(log_left, cells, rows, lengths, SPREAD_SHRINKAGE_CELLS)
    # The mean of a log-normal, not its median: labels whose cells vary more are deeper on average.
    skewed = centred + pooled * np.exp(log_spread) / 2
    effects, fitted = _additive(skewed - np.average(skewed, weights=cells), cells, rows, lengths, SHRINKAGE_CELLS)
    if effects:
        # One field carries the constant, in every row but the null one, which stays at the average cell.
        first = next(iter(effects.values()))
        first[1:] -= np.log(np.average(np.exp(fitted), weights=cells))
    return DepthPrior(effects, spread, pooled)


def _row(field: ConditionField, label: str) -> int:
    return CONTROL_ROW if field.is_control(label) else field.row(label)


def _additive(
    values: np.ndarray,
    weights: np.ndarray,
    rows: Mapping[str, np.ndarray],
    lengths: Mapping[str, int],
    shrinkage: float,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ridge fit of values as a sum of one effect per row of every field, by backfitting; effects, and the fit."""
    effects = {name: np.zeros(length) for name, length in lengths.items()}
    fitted = np.zeros(len(values))
    for _ in range(_SWEEPS):
        for name, effect in effects.items():
            fitted -= effect[rows[name]]
            residual = np.bincount(rows[name], weights * (values - fitted), len(effect))
            effect[:] = residual / (np.bincount(rows[name], weights, len(effect)) + shrinkage)
            fitted += effect[rows[name]]
    return effects, fitted
