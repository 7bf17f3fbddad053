"""10x Cell Ranger output as a source: the .h5 matrix, or the folder of matrix.mtx, features.tsv and barcodes.tsv."""

import functools
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.ingestion.damage import reading
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import CsrMatrix, Matrix, require_numbers, require_pointers
from data_pipelines.ingestion.source import Source
from data_pipelines.ingestion.unordered import MatrixMarket

if TYPE_CHECKING:
    import pandas


class TenxSource(Source):
    """What both have: barcodes, features, and X alone."""

    def __init__(self, given: Input) -> None:
        """Refuse layers.

        Raises:
            InputError: a layer is asked for.
        """
        if given.layer is not None:
            raise InputError(f"{given.path} is 10x output and has no {given.layer!r}. Leave out --layer for it.")
        super().__init__(given)

    @property
    def where(self) -> str:
        return f"{self.name} (10x)"

    def read_obs(self) -> "pandas.DataFrame":
        import pandas

        return pandas.DataFrame(index=pandas.Index(self.barcodes))

    @functools.cached_property
    def barcodes(self) -> list[str]:
        """Of the cells, in order."""
        raise NotImplementedError


class TenxH5(TenxSource):
    """A filtered_feature_bc_matrix.h5 or molecule-free matrix of Cell Ranger 2 and later."""

    def __init__(self, given: Input) -> None:
        import h5py

        super().__init__(given)
        self._file = h5py.File(given.path, "r")
        self._group: Any = self._file[_tenx_group(self._file) or ""]

    def close(self) -> None:
        self._file.close()

    def read_matrix(self) -> Matrix:
        for name in ("data", "indices", "indptr", "shape"):
            if name not in self._group:
                raise InputError(f"{self.where} has no {name}: it is damaged. Copy or write it again.")
        genes, cells = (int(size) for size in self._group["shape"][:])
        require_numbers(self._group["data"].dtype, self.where)
        # 10x stores genes x cells by column: read as rows, these are cells x genes.
        data, indices, indptr = (self._group[name] for name in ("data", "indices", "indptr"))
        require_pointers(indices, indptr, self.where)
        return CsrMatrix(data, indices, indptr, (cells, genes), self.where)

    @functools.cached_property
    def barcodes(self) -> list[str]:
        return _text(self._group["barcodes"])

    def read_var(self) -> "pandas.DataFrame":
        import pandas

        if "features" in self._group:
            features = self._group["features"]
            columns = {
                "gene_ids": _text(features["id"]),
                "feature_types": _text(features["feature_type"]),
            }
            return pandas.DataFrame(columns, index=pandas.Index(_text(features["name"])))
        return pandas.DataFrame(
            {"gene_ids": _text(self._group["genes"])}, index=pandas.Index(_text(self._group["gene_names"]))
        )


class TenxFolder(TenxSource):
    """A folder with matrix.mtx, features.tsv (genes.tsv) and barcodes.tsv, gzipped or not."""

    def read_matrix(self) -> Matrix:
        return MatrixMarket(self._file("matrix.mtx"))

    @functools.cached_property
    def barcodes(self) -> list[str]:
        return self._table("barcodes.tsv").iloc[:, 0].tolist()

    def read_var(self) -> "pandas.DataFrame":
        import pandas

        table = self._table("features.tsv", "genes.tsv")
        if table.shape[1] < 2:
            return pandas.DataFrame(index=pandas.Index(table.iloc[:, 0]))
        columns = {"gene_ids": table.iloc[:, 0].to_numpy()}
        if table.shape[1] > 2:
            columns["feature_types"] = table.iloc[:, 2].to_numpy()
        return pandas.DataFrame(columns, index=pandas.Index(table.iloc[:, 1].to_numpy()))

    def _file(self, *names: str) -> pathlib.Path:
        found = _first_of(self.path, *names)
        if found is None:
            raise InputError(f"{self.path} has no {names[0]}: the 10x folder is not complete. Copy it again.")
        return found

    def _table(self, *names: str) -> Any:
        import pandas

        file = self._file(*names)
        with reading(str(file)):
            return pandas.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


def is_tenx_folder(path: pathlib.Path) -> bool:
    """Whether a folder holds a 10x matrix."""
    return _first_of(path, "matrix.mtx") is not None


def is_tenx_h5(path: pathlib.Path) -> bool:
    """Whether a file is HDF5 with the groups of a 10x matrix."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return "obs" not in file and _tenx_group(file) is not None
    except OSError:
        return False  # cut short: the h5ad source says so


def _first_of(path: pathlib.Path, *names: str) -> pathlib.Path | None:
    """The first of these files of a folder, gzipped or not."""
    for name in names:
        for candidate in (path / f"{name}.gz", path / name):
            if candidate.is_file():
                return candidate
    return None


def _tenx_group(file: Any) -> str | None:
    """'matrix' (Cell Ranger 3), or the one genome of an older file."""
    groups = [name for name in file if hasattr(file[name], "keys") and "barcodes" in file[name]]
    return groups[0] if len(groups) == 1 else None


def _text(stored: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in np.asarray(stored[:])]
