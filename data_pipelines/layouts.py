"""How a batch holds its cells: as padded pairs, which a device makes dense, or as dense counts made here."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

# S slabs, k cells of a slab, B = S k cells, z entries that a slab has room for, G genes, C capacity of a cell


class Slabbed(NamedTuple):
    """Cells of some slabs, one after the other."""

    genes: np.ndarray
    """(S, z) panel positions, padded with 0."""
    counts: np.ndarray
    """(S, z), padded with 0."""
    ends: np.ndarray
    """int32 (S, k + 1), where each cell begins, and the last one ends, in its slab."""
    n_genes: int
    capacity: int
    """Most expressed genes of any cell of the store."""


Layout = Callable[[Slabbed], dict[str, np.ndarray]]


def padded_pairs(cells: Slabbed) -> dict[str, np.ndarray]:
    """`genes` (B, C) padded with G, and `counts` (B, C) padded with 0, in the dtypes they came in."""
    slabs, bounds = cells.ends.shape
    genes = np.full((slabs * (bounds - 1), cells.capacity), cells.n_genes, cells.genes.dtype)
    counts = np.zeros(genes.shape, cells.counts.dtype)
    row = 0
    # Plain copies, cell by cell, are several times faster than one scatter of all entries.
    for slab, ends in enumerate(cells.ends.tolist()):
        for start, end in itertools.pairwise(ends):
            genes[row, : end - start] = cells.genes[slab, start:end]
            counts[row, : end - start] = cells.counts[slab, start:end]
            row += 1
    return {"genes": genes, "counts": counts}


def dense_counts(cells: Slabbed) -> dict[str, np.ndarray]:
    """`counts` (B, G), in the dtype they came in."""
    slabs, room = cells.genes.shape
    # The last cell of a slab has the padding too: it adds nothing to gene 0.
    starts = (cells.ends[:, :-1] + np.arange(slabs)[:, None] * room).ravel()
    indptr = np.append(starts, slabs * room).astype(np.int32)
    shape = (len(starts), cells.n_genes)
    arrays = (cells.counts.ravel(), cells.genes.ravel().astype(np.int32), indptr)
    counts: Any = scipy.sparse.csr_matrix(arrays, shape=shape)
    return {"counts": counts.toarray()}
