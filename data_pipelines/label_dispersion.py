"""How much genes vary beyond sampling once labels are told: the dispersion of a negative binomial around label rates.

What differs between labels is variance of all cells together, but of no cell type by itself: a marker that is there or
not, by type, would look as if it were switched on and off at random in each.
"""

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from data_pipelines.progress import Progress
from data_pipelines.splits import Split
from data_pipelines.statistics import overdispersion
from data_pipelines.stored_arrays import with_places

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# n training cells, G genes, R rank

_CELLS_TOGETHER = 512


def dispersion_of_labels(
    store: "CellStore",
    split: Split,
    *,
    mean: np.ndarray,
    size: np.ndarray,
    told: np.ndarray,
    basis: np.ndarray,
    progress: Progress,
) -> np.ndarray:
    """theta of var = m + m^2 / theta around `m = s mu exp(told . basis)`, by moments over the split's training cells.

    Args:
        store: of the cells.
        split: of the store.
        mean: (G,) mean counts at size factor 1.
        size: (n,) size factors of the training cells, in the split's order.
        told: (n, R) what each cell's labels say.
        basis: (G, R), what that does to genes' log-rates.
        progress: told of the pass over the cells.

    Returns:
        float64 (G,).
    """
    error, count, square = (np.zeros(store.n_genes) for _ in range(3))
    for first, rows in with_places(store, split.train, "dispersion within labels", progress):
        counts = scipy.sparse.csr_matrix(store.counts(rows), dtype=np.float64)
        for start in range(0, len(rows), _CELLS_TOGETHER):
            end = min(start + _CELLS_TOGETHER, len(rows))
            part = counts[start:end]
            cells = slice(first + start, first + end)
            expected = size[cells, None] * mean * np.exp(told[cells] @ basis.T)
            expected *= store.measured[store.source[rows[start:end]]]
            of_square = np.einsum("cg,cg->g", expected, expected)
            error += _sums(part.multiply(part)) - 2 * _sums(part.multiply(expected)) + of_square
            count += _sums(part)
            square += of_square
    return 1.0 / overdispersion(error, count, square)


def _sums(matrix: scipy.sparse.spmatrix) -> np.ndarray:
    return np.asarray(matrix.sum(0)).ravel()
