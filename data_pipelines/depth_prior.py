"""What a cell's labels tell of its library size: additive effects of the condition fields on the log size factor."""

from collections.abc import Mapping

import numpy as np

from lingshu_jax.vocabulary import CONTROL_ROW, ConditionVocabulary

SHRINKAGE_CELLS = 5.0
"""A label's effect is shrunk as if it had this many more cells of effect 0."""
_SWEEPS = 30


def fit_depth_prior(
    cells: Mapping[tuple[str, ...], int],
    log_size: Mapping[tuple[str, ...], float],
    log_variance: float,
    fields: tuple[str, ...],
    vocabulary: ConditionVocabulary,
) -> tuple[dict[str, np.ndarray], float]:
    """Fit log size factor = constant + one effect per label of every field, to training conditions.

    Args:
        cells: training cells of each condition, labels in the order of `fields`.
        log_size: their mean log size factor.
        log_variance: variance of the log size factor over all training cells.
        fields: names of the fields of the conditions.
        vocabulary: the fields to use, some or all of them.

    Returns:
        Effects by vocabulary row, float64 (rows,) per field, shifted so that the mean over training cells of
        exp(sum of effects) is 1 when no row is null; and the variance that they leave.
    """
    counts = np.array([cells[key] for key in cells], np.float64)
    sizes = np.array([log_size[key] for key in cells], np.float64)
    mean = np.average(sizes, weights=counts)
    within = max(log_variance - np.average((sizes - mean) ** 2, weights=counts), 0.0)
    effects = {field.name: np.zeros(field.rows) for field in vocabulary.fields}
    rows = {
        field.name: np.array(
            [
                CONTROL_ROW
                if field.is_control(key[fields.index(field.name)])
                else field.row(key[fields.index(field.name)])
                for key in cells
            ]
        )
        for field in vocabulary.fields
    }
    fitted = np.zeros(len(counts))
    for _ in range(_SWEEPS):
        for name, effect in effects.items():
            fitted -= effect[rows[name]]
            residual = np.bincount(rows[name], counts * (sizes - mean - fitted), len(effect))
            effect[:] = residual / (np.bincount(rows[name], counts, len(effect)) + SHRINKAGE_CELLS)
            fitted += effect[rows[name]]
    left = within + np.average((sizes - mean - fitted) ** 2, weights=counts)
    if effects:
        # One field carries the constant, in every row but the null one, which stays at the average cell.
        first = next(iter(effects.values()))
        first[1:] -= np.log(np.average(np.exp(fitted), weights=counts))
    return effects, float(left)
