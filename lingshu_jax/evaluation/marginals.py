"""One-dimensional and gene-level comparisons of two sets of cells, in numpy.

N cells, G genes
"""

from typing import Any

import numpy as np
from scipy.stats import rankdata


def ks_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sample Kolmogorov-Smirnov statistic: the largest gap between the two empirical distribution functions.

    Raises:
        ValueError: a sample is empty.
    """
    x, y = np.sort(np.ravel(x)), np.sort(np.ravel(y))
    if not len(x) or not len(y):
        raise ValueError("the KS distance needs at least one value on each side.")
    values = np.concatenate([x, y])
    below_x = np.searchsorted(x, values, side="right") / len(x)
    below_y = np.searchsorted(y, values, side="right") / len(y)
    return float(np.abs(below_x - below_y).max())


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation over the positions where both are finite; NaN when either is constant there."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both] - a[both].mean() if both.any() else a[both], b[both] - b[both].mean() if both.any() else b[both]
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman correlation (ties share their mean rank) over the positions where both are finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return pearson(rankdata(a[both]), rankdata(b[both]))


def mean_pearson(x: Any, y: Any) -> float:
    """Pearson correlation over genes of the gene means of (N, G) expression, dense or sparse.

    Independent genes reach .98 too: by itself it proves nothing.
    """
    return pearson(np.asarray(x.mean(0)).ravel(), np.asarray(y.mean(0)).ravel())


def mean_spearman(x: Any, y: Any) -> float:
    """Spearman correlation over genes of the gene means of (N, G) expression."""
    return spearman(np.asarray(x.mean(0)).ravel(), np.asarray(y.mean(0)).ravel())


def correlation_error(x: np.ndarray, y: np.ndarray) -> float:
    """Root mean square difference of the gene-gene Pearson correlations, over all pairs of different genes.

    Args:
        x: (N, G) dense expression of a few hundred genes; a gene that is constant on a side correlates 0 there.
        y: (M, G) the same genes.

    Raises:
        ValueError: fewer than two genes or two cells, or different genes.
    """
    if x.shape[1] != y.shape[1] or min(*x.shape, *y.shape) < 2:
        raise ValueError(f"correlations need two cells and two genes a side, got shapes {x.shape} and {y.shape}.")
    gap = _correlations(x) - _correlations(y)
    pairs = np.triu_indices(x.shape[1], k=1)
    return float(np.sqrt((gap[pairs] ** 2).mean()))


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = np.asarray(x, np.float64) - x.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    unit = centred / np.where(spread > 0, spread, 1.0)
    return unit.T @ unit
