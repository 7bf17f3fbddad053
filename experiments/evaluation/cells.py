"""A set of cells as evaluation sees it: counts, what was measured, and expression on one common scale.

n cells, G genes, S sources
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError

Sparse = Any
"""A `scipy.sparse.csr_matrix`, whose own type hints lose track of shape and format."""
_LARGEST = 2**31 - 1
"""Of a count. An infinity would become some integer, and a score."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """Counts of some cells, real or generated."""

    counts: Sparse
    """(n, G) integer UMI counts; unmeasured genes hold zeros."""
    source: np.ndarray
    """(n,) which row of `measured` a cell follows."""
    measured: np.ndarray
    """(S, G) bool: the genes that each source measured."""
    share: np.ndarray
    """(S,) expected share of a cell's counts, over the whole panel, that falls on the genes its source measured."""

    def __len__(self) -> int:
        return self.counts.shape[0]

    def take(self, index: np.ndarray) -> "Cells":
        return dataclasses.replace(self, counts=self.counts[index], source=self.source[index])

    @property
    def libraries(self) -> np.ndarray:
        """(n,) counts per cell."""
        return np.asarray(self.counts.sum(1), np.float64).ravel()

    @property
    def panel_libraries(self) -> np.ndarray:
        """(n,) counts that a cell would be expected to have, had its source measured the whole panel; at least 1."""
        return np.maximum(self.libraries / self.share[self.source], 1.0)

    @property
    def zero_fractions(self) -> np.ndarray:
        """(n,) share of the measured genes without a count."""
        detected = np.asarray((self.counts > 0).sum(1)).ravel()
        return 1 - detected / self.measured.sum(1)[self.source]

    @property
    def times_measured(self) -> np.ndarray:
        """(G,) how many of the cells measured each gene."""
        return np.bincount(self.source, minlength=len(self.measured)) @ self.measured

    def log_expression(self, target_sum: float) -> Sparse:
        """(n, G) log1p of counts scaled so that the panel's total is `target_sum` in every cell."""
        scaled = scipy.sparse.csr_matrix(self.counts, dtype=np.float64, copy=True)
        scaled.data *= np.repeat(target_sum / self.panel_libraries, np.diff(scaled.indptr))
        np.log1p(scaled.data, out=scaled.data)
        return scaled

    def pseudobulk(self, target_sum: float) -> np.ndarray:
        """(G,) mean over cells of `log_expression`; NaN at genes that none of the cells measured."""
        total = np.asarray(self.log_expression(target_sum).sum(0)).ravel()
        times = self.times_measured
        return np.divide(total, times, out=np.full(len(total), np.nan), where=times > 0)


def stored_cells(store: Any, rows: np.ndarray, gene_mean: np.ndarray) -> Cells:
    """Read cells of a store.

    Args:
        store: the cell store.
        rows: (n,) stored row numbers.
        gene_mean: (G,) mean count per gene of the training cells; says how much of a library each source sees.
    """
    measured = np.asarray(store.measured, bool)
    share = (measured * gene_mean).sum(1) / max(gene_mean.sum(), 1e-12)
    return Cells(
        counts=scipy.sparse.csr_matrix(store.counts(rows)),
        source=np.asarray(store.source)[rows],
        measured=measured,
        share=np.maximum(share, 1e-12),
    )


def generated_cells(generated: Any, genes: tuple[str, ...]) -> Cells:
    """Generated cells as an AnnData with the panel's genes in order.

    Raises:
        InputError: other genes, or values that are no counts.
    """
    if tuple(generated.var_names) != tuple(genes):
        raise InputError(
            f"the generated cells have {generated.n_vars} genes that are not the store's panel of {len(genes)} in its "
            "order. Sample again from a run that was trained on this store."
        )
    counts = scipy.sparse.csr_matrix(generated.X)
    data = counts.data
    if counts.nnz and not (data.min() >= 0 and data.max() <= _LARGEST and np.all(data == np.floor(data))):
        raise InputError(
            "the generated cells hold values that are no counts (negative, fractional, NaN or beyond 2^31). "
            "Pass raw counts."
        )
    counts = counts.astype(np.int64)
    counts.eliminate_zeros()
    return all_measured(counts)


def all_measured(counts: Sparse) -> Cells:
    """Cells that measured every gene of the panel."""
    n, genes = counts.shape
    return Cells(counts=counts, source=np.zeros(n, np.int64), measured=np.ones((1, genes), bool), share=np.ones(1))
