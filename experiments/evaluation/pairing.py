"""Differences of bounds, paired on the same held-out cells."""

import numpy as np
from scipy.stats import t

from experiments.evaluation.results import Estimate


def paired_difference(
    model_nats: np.ndarray, baseline_nats: np.ndarray, model_standard_errors: np.ndarray | None = None
) -> Estimate:
    """Mean over cells of model minus baseline, with a 95 % interval (Student t over cells); below 0 the model wins.

    The spread between cells already contains the Monte-Carlo noise of each cell's bound. Where the cells agree more
    closely than their standard errors allow (few cells), those set the width instead.

    Args:
        model_nats: (n,) upper bounds on -log p.
        baseline_nats: (n,) the baseline's -log p of the same cells in the same order.
        model_standard_errors: (n,) Monte-Carlo standard error of each bound.

    Raises:
        ValueError: arrays of different length, or none.
    """
    model_nats, baseline_nats = np.asarray(model_nats, np.float64), np.asarray(baseline_nats, np.float64)
    if model_nats.shape != baseline_nats.shape or model_nats.ndim != 1 or not len(model_nats):
        raise ValueError(f"a paired difference needs the same cells, got {model_nats.shape} and {baseline_nats.shape}.")
    difference, n = model_nats - baseline_nats, len(model_nats)
    error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
    if model_standard_errors is not None:
        error = max(error, float(np.sqrt((np.asarray(model_standard_errors) ** 2).sum()) / n))
    reach = float(error * t.ppf(0.975, max(n - 1, 1)))
    mean = float(difference.mean())
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)
