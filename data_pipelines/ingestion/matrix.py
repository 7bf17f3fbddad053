"""A count matrix in a file as blocks of CSR rows, in bounded memory, whatever its layout on disk.

Nothing is checked but the layout: `counts.py` says what raw counts are.
"""

import abc
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.damage import reading

# n rows (cells), G columns (genes), z stored entries

BYTES_PER_ENTRY = 32
"""Of a block in memory at its worst: value and column in 8 bytes each, and the copies that checking makes."""
MOST_ROWS = 65_536
"""Of one block."""
_QUICK_BLOCK = 32 * 2**20
"""Bytes of blocks that are read one after the other: small enough that their memory is used again and again."""


class Matrix(abc.ABC):
    """A matrix (n, G) on disk."""

    def __init__(self, shape: tuple[int, int], where: str) -> None:
        self.shape = shape
        self.where = where

    @property
    @abc.abstractmethod
    def entries(self) -> int:
        """Number of stored values, explicit zeros included."""

    @abc.abstractmethod
    def read_blocks(
        self, budget: int, first: int, last: int, scratch: pathlib.Path | None
    ) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        """For `blocks`."""

    def cut(self, budget: int) -> list[tuple[int, int]]:
        """For `chunks`."""
        return [(0, self.shape[0])]

    def blocks(
        self, budget: int, first: int = 0, last: int | None = None, *, scratch: pathlib.Path | None = None
    ) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        """Yield (first row, CSR rows) of rows first..last in order, columns sorted, values in a type that numpy adds.

        A block holds about `budget` bytes at most. What must be sorted on disk first is sorted in a folder inside
        `scratch`, which goes away again; by default in the system's folder for temporary files.

        Raises:
            InputError: the file is damaged.
        """
        with reading(self.where):
            yield from self.read_blocks(budget, first, self.shape[0] if last is None else last, scratch)

    def chunks(self, budget: int) -> list[tuple[int, int]]:
        """Ranges of rows that can be read on their own, each a block of about `budget` bytes.

        One range for the whole matrix where no row can be read without its neighbours.

        Raises:
            InputError: the file is damaged.
        """
        with reading(self.where):
            return self.cut(budget)


class CsrMatrix(Matrix):
    """Sparse rows: a block is one contiguous read."""

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: tuple[int, int], where: str) -> None:
        super().__init__(shape, where)
        self.data, self.indices, self.stored_indptr = data, indices, indptr

    @property
    def entries(self) -> int:
        return int(self.data.shape[0])

    def indptr(self, first: int, last: int) -> np.ndarray:
        """int64 (last - first + 1,): where rows first..last begin and end, checked.

        Raises:
            InputError: it does not fit the data.
        """
        indptr = np.asarray(self.stored_indptr[first : last + 1]).astype(np.int64)
        fits = self.stored_indptr.shape[0] == self.shape[0] + 1 and self.indices.shape[0] == self.entries
        fits = fits and indptr[0] >= 0 and indptr[-1] <= self.entries and not (np.diff(indptr) < 0).any()
        # The first row begins at the first entry, the last one ends at the last.
        fits = fits and (first > 0 or indptr[0] == 0) and (last < self.shape[0] or indptr[-1] == self.entries)
        if not fits:
            raise InputError(f"{self.where}: row pointers do not fit the data; the file is damaged. Write it again.")
        return indptr

    def cut(self, budget: int) -> list[tuple[int, int]]:
        return list(_cuts(self.indptr(0, self.shape[0]), budget))

    def read_blocks(
        self, budget: int, first: int, last: int, scratch: pathlib.Path | None
    ) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        indptr = self.indptr(first, last)
        for start, stop in _cuts(indptr, min(budget, _QUICK_BLOCK)):
            low, high = indptr[start], indptr[stop]
            data, indices = numeric(self.data[low:high]), np.asarray(self.indices[low:high])
            require_inside(indices, self.shape[1], self.where)
            rows = (data, indices.astype(np.int32, copy=False), (indptr[start : stop + 1] - low).astype(np.int32))
            block = scipy.sparse.csr_matrix(rows, shape=(stop - start, self.shape[1]))
            if not block.has_canonical_format:
                block.data = block.data.astype(np.float64)  # a sum of 8 bits may need more; exact for all counts
                block.sum_duplicates()
            yield first + start, block


class DenseMatrix(Matrix):
    """A dense array: slices of rows."""

    def __init__(self, stored: Any, where: str) -> None:
        super().__init__((int(stored.shape[0]), int(stored.shape[1])), where)
        self.stored = stored

    @property
    def entries(self) -> int:
        return self.shape[0] * self.shape[1]

    def cut(self, budget: int) -> list[tuple[int, int]]:
        rows = self._rows(budget)
        return [(first, min(first + rows, self.shape[0])) for first in range(0, self.shape[0], rows)]

    def read_blocks(
        self, budget: int, first: int, last: int, scratch: pathlib.Path | None
    ) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        rows = self._rows(min(budget, _QUICK_BLOCK))
        for start in range(first, last, rows):
            yield start, scipy.sparse.csr_matrix(numeric(self.stored[start : min(start + rows, last)]))

    def _rows(self, budget: int) -> int:
        return int(np.clip(budget // (BYTES_PER_ENTRY * max(1, self.shape[1])), 1, MOST_ROWS))


def n_rows(block: scipy.sparse.csr_matrix) -> int:
    """Rows of a CSR block."""
    return len(block.indptr) - 1


def open_matrix(stored: Any, *, where: str) -> Matrix:
    """The matrix stored in an h5ad or zarr group, or array.

    Raises:
        InputError: it is of no layout that AnnData writes, or holds no numbers.
    """
    if hasattr(stored, "shape"):
        if len(stored.shape) != 2:
            raise InputError(f"{where} has {len(stored.shape)} axes; expected cells x genes. Write it again as h5ad.")
        require_numbers(stored.dtype, where)
        return DenseMatrix(stored, where)
    encoding = str(stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "")))
    shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))
    if not encoding.startswith(("csr", "csc")):
        raise InputError(f"{where} is stored as {encoding!r}; expected CSR, CSC or dense. Write it again as h5ad.")
    if shape is None or any(name not in stored for name in ("data", "indices", "indptr")):
        raise InputError(f"{where} is incomplete; the file is damaged. Write it again as h5ad.")
    data, indices, indptr = (stored[name] for name in ("data", "indices", "indptr"))
    require_numbers(data.dtype, where)
    require_pointers(indices, indptr, where)
    size = (int(shape[0]), int(shape[1]))
    if encoding.startswith("csr"):
        return CsrMatrix(data, indices, indptr, size, where)
    from data_pipelines.ingestion.unordered import CscMatrix

    return CscMatrix(data, indices, indptr, size, where)


def require_numbers(dtype: Any, where: str) -> None:
    """Require a dtype of numbers.

    Raises:
        InputError: it is none.
    """
    if np.dtype(dtype).kind not in "uifb":
        raise InputError(f"{where} holds {dtype}, not numbers. Pass a matrix of raw counts (choose with --layer).")


def require_pointers(indices: Any, indptr: Any, where: str) -> None:
    """Require whole numbers where indices and row pointers are stored.

    Raises:
        InputError: there are others.
    """
    if any(np.dtype(stored.dtype).kind not in "ui" for stored in (indices, indptr)):
        raise InputError(f"{where}: indices and row pointers must be whole numbers. Write it again as h5ad.")


def numeric(stored: Any) -> np.ndarray:
    """Values in this machine's byte order and a type that scipy takes: 16-bit floats as 32-bit ones."""
    values = np.asarray(stored)
    kind = np.dtype(np.float32) if values.dtype == np.float16 else values.dtype.newbyteorder("=")
    return values.astype(kind, copy=False)


def require_inside(indices: np.ndarray, size: int, where: str) -> None:
    """Require every index in 0..size-1.

    Raises:
        InputError: one lies outside.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise InputError(f"{where}: an index lies outside the matrix; the file is damaged. Write it again.")


def _cuts(indptr: np.ndarray, budget: int) -> Iterator[tuple[int, int]]:
    """Cut rows into ranges of about `budget` bytes, at least one row each."""
    per_block = max(1, budget // BYTES_PER_ENTRY)
    first, last = 0, len(indptr) - 1
    while first < last:
        stop = int(np.searchsorted(indptr, indptr[first] + per_block, side="right")) - 1
        stop = min(max(stop, first + 1), last, first + MOST_ROWS)
        yield first, stop
        first = stop
