"""Matrices whose entries do not lie row by row: sorted into groups of rows on disk first, so that memory is bounded."""

import abc
import gzip
import itertools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.damage import reading
from data_pipelines.ingestion.matrix import BYTES_PER_ENTRY, MOST_ROWS, Matrix, require_inside
from data_pipelines.system_errors import named

# n rows (cells), G columns (genes), z stored entries

Triplets = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows int64, columns int32, values: (m,) each."""
_ENTRY = np.dtype([("row", np.int64), ("column", np.int32), ("value", np.float64)])
"""On disk. 64 bits hold every count exactly, and sums of entries that are stored twice."""
_FEWEST_TOGETHER = 65_536
"""Entries are read at least so many at a time, or there would be more files to open than entries to write."""


class UnorderedMatrix(Matrix):
    """Entries in any order, read as a stream of triplets."""

    @abc.abstractmethod
    def triplets(self, at_most: int) -> Iterator[Triplets]:
        """Yield the entries, about `at_most` at a time."""

    def read_blocks(
        self, budget: int, first: int, last: int, scratch: pathlib.Path | None
    ) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        groups = max(1, -(-self.entries * BYTES_PER_ENTRY // budget), -(-self.shape[0] // MOST_ROWS))
        rows = -(-self.shape[0] // groups)
        with tempfile.TemporaryDirectory(prefix="cells-from-genes-", dir=scratch) as name:
            folder = pathlib.Path(name)
            self._spill(folder, rows, budget)
            for start in range(0, self.shape[0], rows):
                part = folder / str(start // rows)
                found = np.fromfile(part, dtype=_ENTRY) if part.exists() else np.zeros(0, _ENTRY)
                count = min(rows, self.shape[0] - start)
                places = found["row"] - start, found["column"]
                block = scipy.sparse.csr_matrix((found["value"], places), shape=(count, self.shape[1]))
                block.sort_indices()
                if first < start + count and start < last:
                    low, high = max(first, start), min(last, start + count)
                    yield low, block[low - start : high - start]

    def _spill(self, folder: pathlib.Path, rows: int, budget: int) -> None:
        """Append every entry to the file of its group of `rows` rows."""
        for row, column, value in self.triplets(max(_FEWEST_TOGETHER, budget // (4 * BYTES_PER_ENTRY))):
            group = row // rows
            order = np.argsort(group, kind="stable")
            entries = np.empty(len(order), _ENTRY)
            entries["row"], entries["column"], entries["value"] = row[order], column[order], value[order]
            numbers, starts = np.unique(group[order], return_index=True)
            bounds = itertools.pairwise([*starts, len(order)])
            for number, (start, stop) in zip(numbers, bounds, strict=True):
                part = folder / str(number)
                with named(part), part.open("ab") as file:
                    file.write(entries[start:stop].tobytes())


class CscMatrix(UnorderedMatrix):
    """Sparse columns, as h5ad and zarr files hold them."""

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: tuple[int, int], where: str) -> None:
        super().__init__(shape, where)
        self.data, self.indices, self.indptr = data, indices, indptr

    @property
    def entries(self) -> int:
        return int(self.data.shape[0])

    def triplets(self, at_most: int) -> Iterator[Triplets]:
        indptr = np.asarray(self.indptr[:]).astype(np.int64)
        fits = len(indptr) == self.shape[1] + 1 and indptr[0] == 0 and indptr[-1] == self.entries
        if not fits or (np.diff(indptr) < 0).any() or self.indices.shape[0] != self.entries:
            raise InputError(f"{self.where}: column pointers do not fit the data; the file is damaged. Write it again.")
        for low in range(0, self.entries, at_most):
            high = min(low + at_most, self.entries)
            row = np.asarray(self.indices[low:high]).astype(np.int64)
            require_inside(row, self.shape[0], self.where)
            column = (np.searchsorted(indptr, np.arange(low, high), side="right") - 1).astype(np.int32)
            yield row, column, np.asarray(self.data[low:high])


class MatrixMarket(UnorderedMatrix):
    """A Matrix Market coordinate file of genes x cells, as 10x writes them, gzipped or not."""

    def __init__(self, path: pathlib.Path) -> None:
        """Read the header.

        Raises:
            InputError: the file is no coordinate file of real or integer values.
        """
        self.path = path
        with reading(str(path)):
            with _open_text(path) as file:
                head = file.readline().lower().split()
                self._skip = 1
                line = file.readline()
                while line.startswith("%"):
                    self._skip += 1
                    line = file.readline()
            size = [int(part) for part in line.split()]
        kind = head[2:5]
        if (
            len(size) != 3
            or kind[:1] != ["coordinate"]
            or kind[1:] not in (["integer", "general"], ["real", "general"])
        ):
            raise InputError(f"{path} is no Matrix Market file of sparse counts. Write it as 10x Cell Ranger does.")
        super().__init__((size[1], size[0]), str(path))
        self._entries = size[2]

    @property
    def entries(self) -> int:
        return self._entries

    def triplets(self, at_most: int) -> Iterator[Triplets]:
        seen = 0
        for table in self._tables(at_most):
            gene, cell = table["gene"].to_numpy() - 1, table["cell"].to_numpy() - 1
            require_inside(gene, self.shape[1], self.where)
            require_inside(cell, self.shape[0], self.where)
            seen += len(table)
            yield cell, gene.astype(np.int32), table["count"].to_numpy()
        if seen != self._entries:
            raise InputError(
                f"{self.path} has {seen:,} entries, its header says {self._entries:,}: it is cut short. Copy it again."
            )

    def _tables(self, at_most: int) -> Iterator[Any]:
        import pandas

        try:
            return pandas.read_csv(
                self.path,
                sep=r"\s+",
                header=None,
                skiprows=self._skip + 1,
                names=["gene", "cell", "count"],
                dtype={"gene": np.int64, "cell": np.int64, "count": np.float64},
                chunksize=at_most,
                engine="c",
            )
        except pandas.errors.EmptyDataError:
            return iter(())


def _open_text(path: pathlib.Path) -> Any:
    return gzip.open(path, "rt") if path.suffix == ".gz" else path.open("rt")
