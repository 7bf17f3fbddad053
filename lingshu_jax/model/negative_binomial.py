"""Negative-binomial log-masses of count tokens, in float64 on the host."""

# G genes, V output tokens

import numpy as np
from scipy.special import gammaln

from lingshu_jax.tokens import OVERFLOW, OVERFLOW_COUNT, token_bins

POINTS_PER_BIN = 10
"""Bins of 10 counts are summed exactly, bins of 100 at ten sub-bin midpoints of weight 10."""


def log_pmf(counts: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """log NB(count; mean, theta), var = mu + mu^2 / theta; arguments broadcast."""
    return (
        gammaln(counts + dispersion)
        - gammaln(dispersion)
        - gammaln(counts + 1.0)
        + dispersion * np.log(dispersion / (dispersion + mean))
        + counts * np.log(mean / (dispersion + mean))
    )


def log_token_mass(mean: np.ndarray, dispersion: np.ndarray, *, genes_per_block: int = 1024) -> np.ndarray:
    """log P(token) of every gene under its negative binomial: (G,), (G,) -> float64 (G, V).

    Bins above 99 hold the bin's mass, OVERFLOW the tail's (its first term times a geometric series).
    """
    blocks = range(0, len(mean), genes_per_block)
    return np.concatenate(
        [_token_mass(mean[b : b + genes_per_block, None], dispersion[b : b + genes_per_block, None]) for b in blocks]
    )


def _token_mass(mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    low, width = (a.astype(np.float64) for a in token_bins())
    exact = log_pmf(low[:100], mean, dispersion)
    step = width[100:OVERFLOW] / POINTS_PER_BIN
    points = low[100:OVERFLOW, None] + step[:, None] * np.arange(POINTS_PER_BIN) + (step[:, None] - 1) / 2
    masses = log_pmf(points.ravel(), mean, dispersion).reshape(len(mean), -1, POINTS_PER_BIN)
    binned = np.logaddexp.reduce(masses, axis=-1) + np.log(step)
    ratio = mean / (dispersion + mean)
    overflow = log_pmf(np.array(float(OVERFLOW_COUNT)), mean, dispersion) - np.log1p(-ratio)
    return np.concatenate([exact, binned, overflow], axis=1)
