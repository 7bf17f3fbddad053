"""How surely each gene differs from the controls: Mann-Whitney tests for the conditions that are pictured.

K conditions, G genes
"""

import numpy as np
import scipy.stats

from experiments.evaluation.cells import Cells
from experiments.evaluation.effects import Generated
from experiments.evaluation.held_out import Condition, HeldOut

MOST_CELLS = 200
"""Cells of a group: more of them make everything significant, and on both sides alike."""


def volcano_arrays(held_out: HeldOut, generated: Generated, conditions: list[Condition]) -> dict[str, np.ndarray]:
    """-log10 of adjusted p-values, float32 (K, G): `volcano_real` and `volcano_model`.

    Real cells against the truth's half of the controls, as many generated cells against the prediction's half.
    """
    real, model = [], []
    for condition in conditions:
        side, cells = held_out.contexts[condition[0]], held_out.cells[condition]
        n = min(len(cells), generated.n(condition), MOST_CELLS)
        of_truth, of_prediction = side.truth_controls, side.prediction_controls
        real.append(surprise(_first(cells, n), _first(of_truth, MOST_CELLS), held_out.target_sum))
        drawn = _first(generated.take(condition), n)
        model.append(surprise(drawn, _first(of_prediction, MOST_CELLS), held_out.target_sum))
    return {"volcano_real": np.array(real, np.float32), "volcano_model": np.array(model, np.float32)}


def surprise(cells: Cells, controls: Cells, target_sum: float) -> np.ndarray:
    """(G,) -log10 of two-sided p-values, adjusted over genes by Benjamini and Hochberg; 0 at genes without a count."""
    first, second = cells.log_expression(target_sum), controls.log_expression(target_sum)
    counted = np.flatnonzero((first.getnnz(axis=0) > 0) | (second.getnnz(axis=0) > 0))
    found = np.zeros(first.shape[1])
    if len(counted) and min(len(cells), len(controls)) > 1:
        sides = (part[:, counted].toarray() for part in (first, second))
        p = scipy.stats.mannwhitneyu(*sides, axis=0, method="asymptotic").pvalue
        adjusted = scipy.stats.false_discovery_control(np.nan_to_num(p, nan=1.0))
        found[counted] = -np.log10(np.maximum(adjusted, np.finfo(float).tiny))
    return found


def _first(cells: Cells, n: int) -> Cells:
    return cells.take(np.arange(min(n, len(cells))))
