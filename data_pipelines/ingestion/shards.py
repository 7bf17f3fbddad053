"""Second half of the global shuffle: gather stored rows from all runs, and write whole shards of the store."""

import dataclasses

import numpy as np

from data_pipelines.ingestion.runs import runs_of
from data_pipelines.ingestion.work import Work
from data_pipelines.location import Location
from data_pipelines.system_errors import told_as_system_errors

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
        offset = int(indptr[first])
        written = []
        for name, values in zip(("indices", "data"), _gather(task.work, first, last), strict=True):
            array = task.store.array(f"X/{name}", write=True)
            dtype = array.dtype.numpy_dtype
            for number in missing:
                start, stop = number * task.elements, min((number + 1) * task.elements, entries)
                written.append(array[start:stop].write(values[start - offset : stop - offset].astype(dtype)))
        with told_as_system_errors(task.store / "X"):
            for pending in written:  # compressed and written by TensorStore's threads
                pending.result()
    return min(task.last * task.elements, entries) - task.first * task.elements


def _is_there(store: Location, number: int) -> bool:
    return all(store.exists(f"X/{name}/c/{number}") for name in ("indices", "data"))


def _gather(work: Work, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Genes (z,) and counts (z,) of the stored rows first..last-1, in order."""
    genes = [np.zeros(0, np.uint8)] * (last - first)
    counts = genes.copy()
    for run in runs_of(work):
        rows, ends, some_genes, some_counts = run.cells(first, last)
        for row, start, end in zip((rows - first).tolist(), ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            genes[row], counts[row] = some_genes[start:end], some_counts[start:end]
    return np.concatenate(genes), np.concatenate(counts)
