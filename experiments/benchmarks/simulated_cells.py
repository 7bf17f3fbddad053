"""Cells with the sparsity of real ones, for the loader and ingest benchmarks."""

import numpy as np
import scipy.sparse

# N cells, G genes

EXPRESSED = 2_638
"""Expressed genes of the average cell."""
_TOGETHER = 1_000


def simulated_counts(cells: int, genes: int, seed: int = 0) -> scipy.sparse.csr_matrix:
    """Poisson counts (N, G), float32 as most h5ad files hold them, at log-normal gene means and depths.

    The average cell expresses 2,638 of 18,080 genes, or the same share of another number.
    """
    rng = np.random.default_rng(seed)
    mean = rng.lognormal(0.0, 2.0, genes)
    wanted = EXPRESSED * genes / 18_080
    low, high = 1e-6, 1e3
    for _ in range(60):
        scale = np.sqrt(low * high)
        low, high = (scale, high) if (1 - np.exp(-mean * scale)).sum() < wanted else (low, scale)
    depth = rng.lognormal(0.0, 0.4, (cells, 1))
    blocks = [
        scipy.sparse.csr_matrix(rng.poisson(depth[first : first + _TOGETHER] * mean * low).astype(np.float32))
        for first in range(0, cells, _TOGETHER)
    ]
    return scipy.sparse.csr_matrix(scipy.sparse.vstack(blocks))
