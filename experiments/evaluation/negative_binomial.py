"""The NB x depth baseline: a negative binomial per gene, scaled by a depth that is summed over a grid.

n cells, G genes, Z depths. X_g | z ~ NB(mean z mu_g, variance z mu_g + (z mu_g)^2 / theta_g).
"""

import dataclasses

import numpy as np
import scipy.sparse
from scipy.special import gammaln, logsumexp
from scipy.stats import nbinom

from experiments.evaluation.cells import Cells, Sparse
from lingshu_jax.tokens import OVERFLOW, OVERFLOW_COUNT, encode_counts, token_bins

DEPTHS = 24
"""Points of the depth grid."""


@dataclasses.dataclass(frozen=True)
class DepthNB:
    """A proper likelihood over tokens: the NB mass of a token's bin, averaged over the depth grid."""

    mean: np.ndarray
    """(G,) mean count at depth 1."""
    dispersion: np.ndarray
    """(G,) theta."""
    depths: np.ndarray
    """(Z,) equally likely size factors."""

    def nats(self, cells: Cells) -> np.ndarray:
        """(n,) -log p of every cell, depth marginalised; unmeasured genes contribute nothing."""
        exact, binned = _split_at_100(cells.counts)
        theta, rate = self.dispersion, self.mean[:, None] * self.depths  # rate (G, Z)
        spread = np.log(theta)[:, None] - np.log(theta[:, None] + rate)
        log_odds = np.log(rate) - np.log(theta[:, None] + rate)
        x, own = exact.data, theta[exact.indices]
        combinatorial = gammaln(x + own) - gammaln(own) - gammaln(x + 1.0)
        constant = scipy.sparse.csr_matrix((combinatorial, exact.indices, exact.indptr), shape=exact.shape).sum(1)
        by_depth = (cells.measured @ (theta[:, None] * spread))[cells.source] + np.asarray(constant)
        by_depth = by_depth + exact @ log_odds
        cell, gene, token = binned
        if len(cell):
            zero = theta[gene, None] * spread[gene]  # counted above as if the gene were at zero
            np.add.at(by_depth, cell, _log_bin_mass(token, rate[gene], theta[gene]) - zero)
        return np.log(len(self.depths)) - logsumexp(by_depth, axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> Sparse:
        """(n, G) counts at depths drawn from the grid."""
        blocks = [scipy.sparse.csr_matrix((0, len(self.mean)), dtype=np.int64)]
        for start in range(0, n, 256):
            depth = rng.choice(self.depths, min(256, n - start))
            rate = rng.gamma(self.dispersion, 1 / self.dispersion, (len(depth), len(self.mean)))
            blocks.append(scipy.sparse.csr_matrix(rng.poisson(rate * self.mean * depth[:, None])))
        return scipy.sparse.vstack(blocks, format="csr")


def depth_grid(size_factors: np.ndarray) -> np.ndarray:
    """(Z,) quantiles of the training size factors at the middles of Z equal parts."""
    return np.exp(np.quantile(np.log(size_factors), (np.arange(DEPTHS) + 0.5) / DEPTHS))


def fit_group(cells: Cells, gene_mean: np.ndarray) -> DepthNB:
    """Moments of one group of training cells, shrunk to the means of all training cells (as `Statistics` does it).

    Args:
        cells: the group.
        gene_mean: (G,) mean count per gene of all training cells: the direction of the shrinkage, and its sum is the
            library of size factor 1.
    """
    size = cells.panel_libraries / gene_mean.sum()
    counts = scipy.sparse.csr_matrix(cells.counts, dtype=np.float64)
    total, total_square = _column_sums(counts), _column_sums(counts.multiply(counts))
    weighted = counts.T @ size
    sources = len(cells.measured)
    size_sum = np.bincount(cells.source, size, minlength=sources) @ cells.measured
    square_sum = np.bincount(cells.source, size**2, minlength=sources) @ cells.measured
    prior = 0.3 * size.mean()
    mean = (total + prior * (gene_mean + 1e-4)) / (size_sum + prior)
    excess = total_square - 2 * mean * weighted + mean**2 * square_sum - total
    phi = np.clip((excess + 0.15) / (mean**2 * square_sum + 3), 1e-3, 5.0)
    return DepthNB(mean, 1 / phi, depth_grid(size))


def _split_at_100(
    counts: Sparse,
) -> tuple[Sparse, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Counts below 100, and (cell, gene, token) of the others."""
    exact = scipy.sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    large = exact.data >= 100
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[large]
    tokens = encode_counts(counts.data[large].astype(np.int64)).astype(np.int64)
    binned = cell, counts.indices[large], tokens
    exact.data[large] = 0.0
    exact.eliminate_zeros()
    return exact, binned


def _log_bin_mass(token: np.ndarray, rate: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(E, Z) log NB mass of each entry's bin, given rate (E, Z) and theta (E,)."""
    low, width = (part[token].astype(np.float64) for part in token_bins())
    mass = np.full(rate.shape, -np.inf)
    log_odds = np.log(rate) - np.log(theta[:, None] + rate)
    base = theta[:, None] * (np.log(theta[:, None]) - np.log(theta[:, None] + rate))
    for offset in range(int(width.max(initial=1))):
        inside = np.flatnonzero(offset < width)
        x, own = low[inside] + offset, theta[inside]
        constant = gammaln(x + own) - gammaln(own) - gammaln(x + 1)
        mass[inside] = np.logaddexp(mass[inside], constant[:, None] + x[:, None] * log_odds[inside] + base[inside])
    over = token == OVERFLOW
    if over.any():
        own = theta[over, None]
        mass[over] = nbinom.logsf(OVERFLOW_COUNT - 1, own, own / (own + rate[over]))
    return np.maximum(mass, -1e4)  # a tail that underflows stays finite


def _column_sums(matrix: Sparse) -> np.ndarray:
    return np.asarray(matrix.sum(0)).ravel()
