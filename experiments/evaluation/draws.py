"""Cells around a predicted pseudobulk: what turns a baseline that predicts means into one that gives counts.

n cells, G genes
"""

import numpy as np
import scipy.sparse

from experiments.evaluation.cells import Cells, Sparse


def cells_around(
    target: np.ndarray,
    controls: Cells,
    control: np.ndarray,
    n: int,
    target_sum: float,
    rng: np.random.Generator,
) -> Cells:
    """Resample control cells and move every gene's rate by the predicted fold change.

    A gene that falls is thinned binomially; to one that rises Poisson counts are added in proportion to each cell's
    depth, so that genes without a count in controls can rise too. What genes of a cell share stays as it was.

    Args:
        target: (G,) wanted mean of log1p expression at `target_sum` counts per cell; NaN leaves the gene alone.
        controls: cells to resample.
        control: (G,) the same mean of the controls.
        n: cells to draw.
        target_sum: counts per cell that both means are on.
        rng: of the draws.
    """
    drawn = controls.take(rng.integers(len(controls), size=n))
    known = np.isfinite(target) & np.isfinite(control)
    have = np.expm1(np.where(known, control, 0.0))
    want = np.expm1(np.maximum(np.where(known, target, 0.0), 0.0))
    kept = np.divide(np.minimum(want, have), have, out=np.ones_like(have), where=have > 0)
    thinned: Sparse = scipy.sparse.csr_matrix(drawn.counts, dtype=np.int64, copy=True)
    thinned.data = rng.binomial(thinned.data, kept[thinned.indices])
    more = np.maximum(want - have, 0.0) / target_sum
    added = _poisson(more, drawn.panel_libraries, rng)
    counts = scipy.sparse.csr_matrix(thinned + added)
    counts.eliminate_zeros()
    return Cells(counts=counts, source=drawn.source, measured=drawn.measured, share=drawn.share)


def _poisson(share: np.ndarray, libraries: np.ndarray, rng: np.random.Generator) -> scipy.sparse.csr_matrix:
    """(n, G) independent Poisson counts with means libraries x share, drawn count by count: most are zeros."""
    shape = (len(libraries), len(share))
    total = share.sum()
    per_cell = rng.poisson(libraries * total)
    cumulated = np.cumsum(share)
    genes = np.searchsorted(cumulated, rng.random(per_cell.sum()) * total, side="right")
    cells = np.repeat(np.arange(len(libraries)), per_cell)
    ones = np.ones(len(cells), np.int64)
    return scipy.sparse.csr_matrix((ones, (cells, np.minimum(genes, shape[1] - 1))), shape=shape)
