"""Do predictions depend on the perturbation? Their spread between perturbations over that of the real effects.

P perturbations of a context, G genes
"""

import numpy as np

from experiments.evaluation.baselines import Baseline, fit_baselines
from experiments.evaluation.cells import Cells
from experiments.evaluation.effects import MODEL, Generated
from experiments.evaluation.held_out import HeldOut
from experiments.evaluation.results import CollapseRow
from experiments.evaluation.training_effects import TrainingEffects

COLLAPSED = 0.2
"""Below this share of the real spread a note is written."""


def collapse_table(held_out: HeldOut, training: TrainingEffects, generated: Generated) -> tuple[CollapseRow, ...]:
    """Spread of predicted over spread of real pseudobulks, per method and context; () without contexts to look at.

    Spread is the variance between a context's perturbations, summed over genes; the variance that the finite number of
    cells alone gives is subtracted on both sides. Controls drop out. A context needs two scored perturbations and a
    real spread above that noise.
    """
    baselines = [baseline for baseline in fit_baselines(training) if "sampled" not in baseline.name]
    found: dict[str, dict[str, float]] = {}
    for context in held_out.contexts:
        names = sorted(n for where, n in held_out.cells if where == context and generated.n((context, n)))
        if len(names) < 2:
            continue
        real = _spread_of_cells([held_out.cells[context, name] for name in names], held_out.target_sum)
        if real <= 0:
            continue
        model = _spread_of_cells([generated.take((context, name)) for name in names], held_out.target_sum)
        found.setdefault(MODEL, {})[context] = max(model, 0.0) / real
        for baseline in baselines:
            spread = _spread_of_baseline(baseline, context, names)
            if spread is not None:
                found.setdefault(baseline.name, {})[context] = spread / real
    return tuple(
        CollapseRow(name=name, share=float(np.mean(list(shares.values()))), contexts=shares)
        for name, shares in found.items()
    )


def _spread_of_cells(conditions: list[Cells], target_sum: float) -> float:
    means, noise = [], []
    for cells in conditions:
        expression, times = cells.log_expression(target_sum), np.maximum(cells.times_measured, 1)
        mean = np.asarray(expression.sum(0)).ravel() / times
        square = np.asarray(expression.multiply(expression).sum(0)).ravel() / times
        means.append(np.where(cells.times_measured > 0, mean, np.nan))
        noise.append((square - mean**2) / np.maximum(times - 1, 1))
    return _spread(np.stack(means)) - float(np.nansum(np.where(np.isnan(means).any(0), 0.0, np.mean(noise, axis=0))))


def _spread_of_baseline(baseline: Baseline, context: str, names: list[str]) -> float | None:
    """Of its constant predictions; None where it does not predict all of them."""
    if baseline.name == "no_change":
        return 0.0
    rng = np.random.default_rng(0)
    predictions = [baseline.predict(context, name, 1, rng) for name in names]
    known = [prediction for prediction in predictions if prediction is not None]
    return _spread(np.stack(known)) if len(known) == len(names) else None


def _spread(means: np.ndarray) -> float:
    """Variance over rows (P, G), summed over the genes that all of them know."""
    return float(np.var(means[:, np.isfinite(means).all(0)], axis=0, ddof=1).sum())
