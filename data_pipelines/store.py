"""An open cell store: what it holds, and counts of any rows through TensorStore."""

import functools
import json
import pathlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse

from data_pipelines.columns import Columns
from data_pipelines.contents import check_contents, check_file, read_checksums
from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from data_pipelines.ingestion.tables import FORMAT, INPUT_COLUMN, SOURCE_COLUMN, as_labels
from data_pipelines.location import Location, new_cache
from lingshu_jax.vocabulary import GenePanel

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas

# N cells, G genes


class CellStore:
    """A complete cell store, read only. Cheap to open and to send to another process; counts stay on disk."""

    def __init__(self, path: Location, manifest: dict[str, Any]) -> None:
        """Use `CellStore.open`."""
        self.path = path
        self.manifest = manifest
        self.columns = Columns.from_json(manifest["columns"])
        self.hash: str = manifest["hash"]
        self.n_cells: int = manifest["totals"]["cells"]
        self.n_genes: int = manifest["totals"]["genes"]
        self.capacity: int = max(1, manifest["totals"]["capacity"])
        """Most expressed genes of any cell."""
        largest = manifest["totals"]["largest_count"]
        self.gene_dtype = _smallest(self.n_genes)
        self.count_dtype = _smallest(largest)
        """Of padded pairs: half the bytes to a device where 16 bits are enough."""

    @classmethod
    def open(cls, path: str | pathlib.Path | Location) -> "CellStore":
        """Open a store: a folder, or a gs://, s3:// or file:// URL.

        Raises:
            InputError: there is no complete cell store at `path`, it is damaged, or of another format version.
        """
        path = Location(path)
        if not path.exists("zarr.json"):
            what = "is not a cell store" if path.path is None or path.path.exists() else "does not exist"
            raise InputError(f"{path} {what}. Make a store with: lingshu ingest FILE.h5ad --out {path}")
        checksums = read_checksums(path)
        check_file(path, "zarr.json", path.read("zarr.json") or b"", checksums)
        manifest = _read_manifest(path, checksums)
        check_format(f"the cell store {path}", manifest.get("format"), FORMAT, "Ingest again.", oldest=FORMAT)
        check_contents(path, checksums)
        try:
            return cls(path, manifest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged: its manifest cannot be read ({error}). Ingest again.") from error

    def __repr__(self) -> str:
        return f"CellStore({str(self.path)!r}, {self.n_cells} cells x {self.n_genes} genes, hash {self.hash})"

    def __reduce__(self) -> Any:
        return CellStore, (self.path, self.manifest)

    @functools.cached_property
    def obs(self) -> "pandas.DataFrame":
        """One row per stored cell, in stored order; condition and batch columns as text without missing values."""
        obs = self._read("obs")
        try:
            return as_labels(obs, self.columns)
        except KeyError as error:
            raise InputError(f"{self.path} is damaged: its obs has no column {error}. Ingest again.") from error

    @functools.cached_property
    def var(self) -> "pandas.DataFrame":
        """One row per gene of the panel."""
        return self._read("var")

    @functools.cached_property
    def panel(self) -> GenePanel:
        return GenePanel(tuple(str(gene) for gene in self.var.index))

    @functools.cached_property
    def measured(self) -> np.ndarray:
        """bool (sources, G): which panel genes each source measured."""
        return np.asarray(self._read("uns/cell_store/measured"), bool)

    @functools.cached_property
    def source(self) -> np.ndarray:
        """int32 (N,): the source of each stored cell."""
        return self.obs[SOURCE_COLUMN].to_numpy(np.int32)

    @functools.cached_property
    def stored_row(self) -> np.ndarray:
        """int64 (N,): the stored row of each cell in input order (file by file, row by row)."""
        return np.argsort(self.obs[INPUT_COLUMN].to_numpy())

    @functools.cached_property
    def planted_truth(self) -> dict[str, np.ndarray] | None:
        """The truth of a simulated screen (see `simulate_screen`), or None."""
        if not self.path.list_keys("uns/planted_truth/"):
            return None
        return self._read("uns/planted_truth")

    def _read(self, key: str) -> Any:
        return _read(self.path, key, self._checksums)

    @functools.cached_property
    def _checksums(self) -> "Mapping[str, str]":
        return read_checksums(self.path)

    @functools.cached_property
    def _rows(self) -> "_Rows":
        return _Rows(self.path)

    def counts(self, rows: Any) -> scipy.sparse.csr_matrix:
        """Counts of some cells.

        Args:
            rows: integers (n,), stored row numbers in any order, repeats allowed.

        Returns:
            int32 (n, G) in the order asked, columns sorted.

        Raises:
            IndexError: a row lies outside the store.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= self.n_cells):
            raise IndexError(f"rows must lie in 0..{self.n_cells - 1}, got {rows.min()}..{rows.max()}.")
        distinct, place = np.unique(rows, return_inverse=True)
        genes, counts, indptr = self.entries(distinct)
        cells = scipy.sparse.csr_matrix((counts.astype(np.int32), genes, indptr), shape=(len(distinct), self.n_genes))
        cells.has_sorted_indices = True
        return cells if np.array_equal(distinct, rows) else cells[place]

    @functools.cached_property
    def expressed(self) -> np.ndarray:
        """int64 (N,): expressed genes of each stored cell."""
        return np.diff(self._rows.indptr)

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The raw material of `counts`, for those who make something else of it.

        Args:
            rows: int64 (n,), stored row numbers, strictly increasing.

        Returns:
            Panel positions (z,), counts (z,), as stored, and int64 row pointers (n + 1,).
        """
        return self._rows.read(rows)


class _Rows:
    """Reads rows of a store's CSR arrays in few, contiguous pieces."""

    def __init__(self, path: Location) -> None:
        self._path = path
        cache = new_cache()  # of this store alone: tomorrow another one may lie at its place
        self._data, self._indices = path.array("X/data", cache=cache), path.array("X/indices", cache=cache)
        try:
            self.indptr: np.ndarray = path.array("X/indptr").read().result()
        except ValueError as error:
            raise _damaged(path, error) from error

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Panel positions, counts and row pointers of strictly increasing rows."""
        starts, ends = self.indptr[rows], self.indptr[rows + 1]
        indptr = np.concatenate([[0], np.cumsum(ends - starts)])
        if not indptr[-1]:
            return np.zeros(0, np.int32), np.zeros(0, self._data.dtype.numpy_dtype), indptr
        # Rows that are nearer to each other than a chunk are read as one piece: the chunk is decoded anyway.
        first = np.flatnonzero(np.concatenate([[True], starts[1:] - ends[:-1] > _GAP]))
        pieces = list(zip(first.tolist(), [*first[1:].tolist(), len(rows)], strict=True))
        reads = [
            [array[starts[low] : ends[high - 1]].read() for low, high in pieces]
            for array in (self._indices, self._data)
        ]
        cuts = [_runs(starts[low:high], ends[low:high]) for low, high in pieces]
        try:
            genes, counts = (
                [future.result()[start:end] for future, runs in zip(futures, cuts, strict=True) for start, end in runs]
                for futures in reads
            )
        except ValueError as error:
            raise _damaged(self._path, error) from error
        return _joined(genes), _joined(counts), indptr


_GAP = 32_768


def _smallest(largest: int) -> np.dtype:
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.int32)


def _runs(starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """Rows that lie in one piece as few ranges of it: one, where no other row is in between."""
    first = np.flatnonzero(np.concatenate([[True], starts[1:] != ends[:-1]]))
    last = np.append(first[1:], len(starts)) - 1
    return list(zip((starts[first] - starts[0]).tolist(), (ends[last] - starts[0]).tolist(), strict=True))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _read_manifest(path: Location, checksums: "Mapping[str, str]") -> dict[str, Any]:
    try:
        return dict(json.loads(cast(str, _read(path, "uns/cell_store/manifest", checksums))))
    except Exception as error:
        if checksums and isinstance(error, InputError):  # it was complete once
            raise
        raise InputError(
            f"{path} is a zarr folder but no complete cell store. Make one with: lingshu ingest FILE.h5ad --out STORE"
        ) from error


def _read(path: Location, key: str, checksums: "Mapping[str, str]") -> Any:
    import zarr
    from anndata.io import read_elem

    try:
        return read_elem(zarr.open_group(path.zarr(checksums=checksums), mode="r", zarr_format=3)[key])
    except InputError:
        raise
    except Exception as error:  # whatever a damaged chunk makes of its decoder
        raise _damaged(path / key, error) from error


def _damaged(path: Location, error: Exception) -> InputError:
    said = str(error).splitlines()[0][:300]
    return InputError(f"{path} is damaged and cannot be read ({said}). Copy the store again, or ingest again.")
