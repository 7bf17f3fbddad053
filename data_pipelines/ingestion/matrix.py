"""A count matrix inside an h5ad file as blocks of CSR rows: CSR, CSC or dense, in bounded memory.

Nothing is checked but the layout: `counts.py` says what raw counts are.
"""

import abc
import itertools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError

# n rows (cells), G columns (genes), z stored entries


class Matrix(abc.ABC):
    """A matrix (n, G) on disk."""

    def __init__(self, stored: Any, shape: tuple[int, int], where: str) -> None:
        self.stored = stored
        self.shape = shape
        self.where = where

    @abc.abstractmethod
    def blocks(self, budget: int) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        """Yield (first row, CSR rows) in order, in the stored dtype; a block holds about `budget` bytes at most."""

    @property
    @abc.abstractmethod
    def entries(self) -> int:
        """Number of stored values, explicit zeros included."""


class CsrMatrix(Matrix):
    """Sparse rows: a block is one contiguous read."""

    @property
    def entries(self) -> int:
        return int(self.stored["data"].shape[0])

    def blocks(self, budget: int) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        indptr = self.stored["indptr"][:].astype(np.int64)
        fits = len(indptr) == self.shape[0] + 1 and indptr[0] == 0 and indptr[-1] == self.entries
        if not fits or (np.diff(indptr) < 0).any() or len(self.stored["indices"]) != self.entries:
            raise InputError(f"{self.where}: row pointers do not fit the data; the file is damaged. Write it again.")
        per_block = max(1, budget // _BYTES_PER_ENTRY)
        first = 0
        while first < self.shape[0]:
            last = int(np.searchsorted(indptr, indptr[first] + per_block, side="right")) - 1
            last = min(max(last, first + 1), self.shape[0], first + _MOST_ROWS)
            low, high = indptr[first], indptr[last]
            data, indices = self.stored["data"][low:high], self.stored["indices"][low:high]
            _require_columns(indices, self.shape[1], self.where)
            rows = (data, indices, indptr[first : last + 1] - low)
            block = scipy.sparse.csr_matrix(rows, shape=(last - first, self.shape[1]))
            block.sum_duplicates()
            yield first, block
            first = last


class DenseMatrix(Matrix):
    """A dense dataset: slices of rows."""

    @property
    def entries(self) -> int:
        return self.shape[0] * self.shape[1]

    def blocks(self, budget: int) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        rows = int(np.clip(budget // (_BYTES_PER_ENTRY * self.shape[1]), 1, _MOST_ROWS))
        for first in range(0, self.shape[0], rows):
            yield first, scipy.sparse.csr_matrix(self.stored[first : first + rows])


class CscMatrix(Matrix):
    """Sparse columns: entries are sorted into groups of rows on disk first, so that memory stays bounded."""

    @property
    def entries(self) -> int:
        return int(self.stored["data"].shape[0])

    def blocks(self, budget: int) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        groups = max(1, -(-self.entries * 2 * _BYTES_PER_ENTRY // budget), -(-self.shape[0] // _MOST_ROWS))
        rows = -(-self.shape[0] // groups)
        dtype = self.stored["data"].dtype
        with tempfile.TemporaryDirectory(prefix="columns-to-rows-") as folder:
            self._spill(pathlib.Path(folder), rows, budget)
            for first in range(0, self.shape[0], rows):
                row, column, value = (
                    np.fromfile(_part(pathlib.Path(folder), first // rows, name), dtype=kind)
                    if _part(pathlib.Path(folder), first // rows, name).exists()
                    else np.zeros(0, kind)
                    for name, kind in (("row", np.int64), ("column", np.int32), ("value", dtype))
                )
                count = min(rows, self.shape[0] - first)
                yield first, scipy.sparse.csr_matrix((value, (row - first, column)), shape=(count, self.shape[1]))

    def _spill(self, folder: pathlib.Path, rows: int, budget: int) -> None:
        indptr = self.stored["indptr"][:].astype(np.int64)
        if len(indptr) != self.shape[1] + 1 or indptr[-1] != self.entries:
            raise InputError(f"{self.where}: column pointers do not fit the data; the file is damaged. Write it again.")
        step = max(1, budget // (4 * _BYTES_PER_ENTRY))
        for low in range(0, self.entries, step):
            high = min(low + step, self.entries)
            row = self.stored["indices"][low:high].astype(np.int64)
            _require_columns(row, self.shape[0], self.where)
            column = (np.searchsorted(indptr, np.arange(low, high), side="right") - 1).astype(np.int32)
            value = self.stored["data"][low:high]
            order = np.argsort(row // rows, kind="stable")
            bounds = np.searchsorted((row // rows)[order], np.arange(-(-self.shape[0] // rows) + 1))
            for group, (start, stop) in enumerate(itertools.pairwise(bounds)):
                for name, array in (("row", row), ("column", column), ("value", value)):
                    with _part(folder, group, name).open("ab") as file:
                        array[order[start:stop]].tofile(file)


_BYTES_PER_ENTRY = 16
"""Of a block in memory: value, column and the copies that checking makes."""
_MOST_ROWS = 65_536


def n_rows(block: scipy.sparse.csr_matrix) -> int:
    """Rows of a CSR block."""
    return len(block.indptr) - 1


def open_matrix(stored: Any, *, where: str) -> Matrix:
    """The matrix stored in an h5ad group or dataset.

    Raises:
        InputError: it is of no layout that AnnData writes, or holds no numbers.
    """
    if hasattr(stored, "shape"):
        if len(stored.shape) != 2:
            raise InputError(f"{where} has {len(stored.shape)} axes; expected cells x genes. Write it again as h5ad.")
        kind, shape, dtype = DenseMatrix, stored.shape, stored.dtype
    else:
        encoding = stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", ""))
        shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))
        if str(encoding).startswith("csr"):
            kind = CsrMatrix
        elif str(encoding).startswith("csc"):
            kind = CscMatrix
        else:
            raise InputError(f"{where} is stored as {encoding!r}; expected CSR, CSC or dense. Write it again as h5ad.")
        if shape is None or any(name not in stored for name in ("data", "indices", "indptr")):
            raise InputError(f"{where} is incomplete; the file is damaged. Write it again as h5ad.")
        dtype = stored["data"].dtype
    if dtype.kind not in "uifb":
        raise InputError(f"{where} holds {dtype}, not numbers. Pass a matrix of raw counts (choose with --layer).")
    return kind(stored, (int(shape[0]), int(shape[1])), where)


def _part(folder: pathlib.Path, group: int, name: str) -> pathlib.Path:
    return folder / f"{group}.{name}"


def _require_columns(indices: np.ndarray, size: int, where: str) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise InputError(f"{where}: an index lies outside the matrix; the file is damaged. Write it again.")
