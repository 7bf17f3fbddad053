"""One global shuffle of all cells in bounded memory: survey the rows, then sort them through buckets on disk."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse

from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.panel import Alignment
from data_pipelines.ingestion.sources import Source
from data_pipelines.progress import Progress

# N cells of all sources in input order, G panel genes


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the first pass over the counts learns."""

    lengths: np.ndarray
    """int32 (N,): expressed genes of each cell, in input order."""
    largest: int
    """Largest count of all."""
    total: int
    """Sum of all counts."""

    @property
    def dtype(self) -> np.dtype:
        """Smallest dtype that holds every count."""
        return np.dtype(np.uint16 if self.largest <= np.iinfo(np.uint16).max else np.uint32)

    @property
    def entries(self) -> int:
        return int(self.lengths.sum(dtype=np.int64))


def count_blocks(
    sources: Sequence[Source], alignments: Sequence[Alignment], budget: int
) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
    """Yield (first input row, checked counts (n, G)) over all sources in order.

    Raises:
        InputError: a value is no raw count.
    """
    offset = 0
    for source, alignment in zip(sources, alignments, strict=True):
        for first, block in source.matrix.blocks(budget):
            counts = raw_counts(block, first=first, where=source.where, slots=source.other_slots)
            yield offset + first, alignment.align(counts)
        offset += source.n_cells


def survey(sources: Sequence[Source], alignments: Sequence[Alignment], *, budget: int, progress: Progress) -> Survey:
    """Pass 1: check every count, measure every row."""
    lengths = np.zeros(sum(source.n_cells for source in sources), np.int32)
    largest = total = 0
    for first, counts in count_blocks(sources, alignments, budget):
        lengths[first : first + n_rows(counts)] = np.diff(counts.indptr)
        largest = max(largest, int(counts.data.max(initial=0)))
        total += int(counts.data.sum(dtype=np.int64))
        progress("checking counts", first + n_rows(counts), len(lengths))
    return Survey(lengths, largest, total)


class Buckets:
    """Cells sorted into contiguous ranges of stored rows, each small enough to be permuted in memory.

    A bucket's file holds its cells in input order; lengths and destinations are known from the survey.
    """

    def __init__(self, folder: pathlib.Path, order: np.ndarray, measured: Survey, n_genes: int, *, budget: int) -> None:
        """Plan the buckets.

        Args:
            folder: where their files go; made here.
            order: int64 (N,), the input row of every stored row.
            measured: the survey of the same cells.
            n_genes: G.
            budget: bytes that one bucket may take in memory.
        """
        folder.mkdir(parents=True)
        self.folder, self.n_genes = folder, n_genes
        self._order, self._lengths, self._dtype = order, measured.lengths, measured.dtype
        ends = np.cumsum(measured.lengths[order], dtype=np.int64)
        per_bucket = max(1, budget // _BYTES_PER_ENTRY)
        # Stored row -> bucket. Rows go where their last entry lies, so no bucket is over budget by more than one row.
        self._bucket_of_row = ends // per_bucket
        self._bucket_of_input = np.empty_like(order)
        self._bucket_of_input[order] = self._bucket_of_row

    def add(self, first: int, counts: scipy.sparse.csr_matrix) -> None:
        """Append the cells of input rows `first`, `first` + 1, ... to their buckets."""
        bucket = self._bucket_of_input[first : first + n_rows(counts)]
        for number in np.unique(bucket):
            part = counts[np.flatnonzero(bucket == number)]
            for name, array in (("genes", part.indices.astype(np.int32)), ("counts", part.data.astype(self._dtype))):
                with self._file(number, name).open("ab") as file:
                    array.tofile(file)

    def stored_rows(self) -> Iterator[scipy.sparse.csr_matrix]:
        """Yield the cells (n, G) in stored order, a bucket at a time; its files are deleted behind it."""
        edges = np.flatnonzero(np.diff(self._bucket_of_row, prepend=-1, append=-1))
        for low, high in itertools.pairwise(edges):
            number = self._bucket_of_row[low]
            inputs = self._order[low:high]
            arrived = np.sort(inputs)
            indptr = np.concatenate([[0], np.cumsum(self._lengths[arrived], dtype=np.int64)])
            arrays = []
            for name, dtype in (("counts", self._dtype), ("genes", np.dtype(np.int32))):
                file = self._file(number, name)
                arrays.append(np.fromfile(file, dtype) if file.exists() else np.zeros(0, dtype))
                file.unlink(missing_ok=True)
            cells = scipy.sparse.csr_matrix((*arrays, indptr), shape=(high - low, self.n_genes))
            yield cells[np.searchsorted(arrived, inputs)]

    def _file(self, number: int, name: str) -> pathlib.Path:
        return self.folder / f"{number}.{name}"


_BYTES_PER_ENTRY = 16
"""Of a bucket in memory: gene and count, twice while it is permuted."""
