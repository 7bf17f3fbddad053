"""Second half of the global shuffle: gather stored rows from all runs, and write whole shards of the store."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.ingestion.runs import runs_of
from data_pipelines.ingestion.work import Work
from data_pipelines.location import Location

# N stored cells, z expressed (cell, gene) pairs

BYTES_PER_ENTRY = 40
"""Of a shard in memory: gene and count as gathered, once more in order, and once more compressed."""


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A few consecutive shards of the arrays `data` and `indices`."""

    work: Work
    store: Location
    first: int
    """Number of the first shard."""
    last: int
    """Number after the last one."""
    elements: int
    """Of one shard."""
    n_genes: int


def write_shards(task: ShardTask) -> int:
    """Task: write the shards that are not there yet; returns how many of its elements the store now has."""
    indptr = np.load(task.work.path / "indptr.npy", mmap_mode="r")
    entries = int(indptr[-1])
    missing = [number for number in range(task.first, task.last) if not _is_there(task.store, number)]
    if missing:
        low, high = missing[0] * task.elements, min((missing[-1] + 1) * task.elements, entries)
        # Cells that lie across the edge of a shard are gathered for both.
        first = int(np.searchsorted(indptr, low, side="right")) - 1
        last = int(np.searchsorted(indptr, high, side="left"))
        cells = _gather(task.work, first, last, task.n_genes)
        offset = int(indptr[first])
        for name, values in (("indices", cells.indices), ("data", cells.data)):
            array = task.store.array(f"X/{name}", write=True)
            for number in missing:
                start, stop = number * task.elements, min((number + 1) * task.elements, entries)
                array[start:stop].write(values[start - offset : stop - offset]).result()
    return min(task.last * task.elements, entries) - task.first * task.elements


def _is_there(store: Location, number: int) -> bool:
    return all(store.exists(f"X/{name}/c/{number}") for name in ("indices", "data"))


def _gather(work: Work, first: int, last: int, n_genes: int) -> scipy.sparse.csr_matrix:
    """The cells of stored rows first..last-1, in order."""
    found = [run.cells(first, last, n_genes) for run in runs_of(work)]
    rows = np.concatenate([rows for rows, _ in found])
    cells: Any = scipy.sparse.vstack([cells for _, cells in found], format="csr")
    return cells[np.argsort(rows)]
