"""Reads the counts of a file once, in blocks, and keeps what a person wants to know about them."""

import dataclasses

import numpy as np

from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.slots import fault_in
from data_pipelines.ingestion.source import Source
from data_pipelines.progress import Progress, silent

_BUDGET = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class CountScan:
    """One matrix, summed up. Values that are no raw counts end the scan at the block they stand in."""

    fault: str | None
    """What is wrong with the values, or None for raw counts."""
    library: np.ndarray
    """float64 (cells,): counts per cell."""
    expressed: np.ndarray
    """int64 (cells,): expressed genes per cell."""
    detected_in_controls: np.ndarray
    """int64 (genes,): control cells that express each gene."""
    largest: float

    @property
    def entries(self) -> int:
        return int(self.expressed.sum())


def scan_counts(source: Source, control: np.ndarray, *, progress: Progress = silent) -> CountScan:
    """Scan the matrix of an open source.

    Args:
        source: the file and the slot.
        control: bool (cells,): the control cells.
        progress: called as progress(stage, cells done, cells).
    """
    library = np.zeros(source.n_cells)
    expressed = np.zeros(source.n_cells, np.int64)
    detected = np.zeros(len(source.genes.index), np.int64)
    largest, fault = 0.0, None
    for first, block in source.matrix.blocks(_BUDGET):
        last = first + n_rows(block)
        fault = fault_in(block, first)
        if fault:
            break
        block.eliminate_zeros()
        library[first:last] = np.asarray(block.sum(1, dtype=np.float64)).ravel()
        expressed[first:last] = np.diff(block.indptr)
        detected += np.bincount(block[control[first:last]].indices, minlength=len(detected))
        largest = max(largest, float(block.data.max(initial=0)))
        progress(f"reading {source.name}", last, source.n_cells)
    return CountScan(fault, library, expressed, detected, largest)
