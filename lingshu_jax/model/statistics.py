"""Per-gene statistics of training cells, as far as a model's start needs them."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lingshu_jax.label_terms import LowRankRates


@dataclasses.dataclass(frozen=True, eq=False)
class StartStatistics:
    """What `LogFrequency` and `DepthNB` start from, and target features. G genes, V output tokens."""

    histogram: np.ndarray
    """int64 (G, V): how often each gene has each token, over training cells that measured it."""
    mean: np.ndarray
    """float64 (G,): negative-binomial mean at size factor 1, counts."""
    dispersion: np.ndarray
    """float64 (G,): theta of var = mu + mu^2 / theta."""
    depth_effects: Mapping[str, np.ndarray]
    """Per condition field, float64 (rows,): what a label adds to the log of the expected depth."""
    spread_effects: Mapping[str, np.ndarray]
    """Per condition field, float64 (rows,): what a label adds to the log of the variance of the log depth."""
    depth_log_variance: float
    """Variance of the log depth that the labels leave, on average."""
    target_features: np.ndarray | None = None
    """float32 (rows, K) by row of the perturbation field, of a model with target features."""
    rates: LowRankRates | None = None
    """What labels do to genes' log-rates; None starts every label at the mean of all cells."""
