"""One input as a validated source: gene ids, obs, and counts in blocks of rows, whatever the format."""

import abc
import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.ingestion.damage import reading
from data_pipelines.ingestion.genes import GeneTable
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import Matrix

if TYPE_CHECKING:
    import pandas


class Source(abc.ABC):
    """An open input. Use it as a context manager; nothing of the counts is read before `matrix.blocks`."""

    def __init__(self, given: Input) -> None:
        self.input = given
        self.path = given.path

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """How messages and the store call it."""
        return self.path.name

    @property
    @abc.abstractmethod
    def where(self) -> str:
        """How messages name the matrix: file and slot."""

    @abc.abstractmethod
    def read_matrix(self) -> Matrix:
        """For `matrix`."""

    @abc.abstractmethod
    def read_obs(self) -> "pandas.DataFrame":
        """For `raw_obs`."""

    @abc.abstractmethod
    def read_var(self) -> "pandas.DataFrame":
        """For `var`."""

    def read_uns(self, name: str) -> Any:
        """For `uns`."""
        return None

    @functools.cached_property
    def matrix(self) -> Matrix:
        """The counts (cells, g), as stored."""
        with reading(self.where):
            return self.read_matrix()

    @functools.cached_property
    def raw_obs(self) -> "pandas.DataFrame":
        """The cells as the file describes them, one row each."""
        with reading(f"{self.name} (obs)"):
            return _table(self.read_obs())

    @functools.cached_property
    def var(self) -> "pandas.DataFrame":
        """The gene table of the matrix that is read, one row per column of it."""
        with reading(f"{self.name} (var)"):
            return _table(self.read_var())

    def uns(self, name: str) -> Any:
        """One entry of uns, or None."""
        with reading(f"{self.name} (uns)"):
            return self.read_uns(name)

    def close(self) -> None:
        """Let go of the file."""
        return

    @property
    def n_cells(self) -> int:
        return self.matrix.shape[0]

    @property
    def layer(self) -> str | None:
        """The matrix that is read: None for X."""
        return None

    @property
    def has_x(self) -> bool:
        """Whether there is a matrix X."""
        return True

    @property
    def other_slots(self) -> tuple[str, ...]:
        """Values of `layer` that this file offers beside X."""
        return ()

    @property
    def obs(self) -> "pandas.DataFrame":
        """The cells with the input's own renamed and added columns.

        Raises:
            InputError: a column to rename is missing, or a name would be taken twice.
        """
        table = self.raw_obs.copy(deep=False)
        missing = [old for old, _ in self.input.rename if old not in table.columns]
        if missing:
            present = ", ".join(map(str, table.columns)) or "none"
            raise InputError(f"{self.name} has no obs column {missing[0]!r} to rename (present: {present}).")
        new = [name for name, _ in self.input.add] + [name for _, name in self.input.rename]
        kept = [name for name in table.columns if name not in dict(self.input.rename)]
        taken = [name for name in new if name in kept or new.count(name) > 1]
        if taken:
            raise InputError(f"{self.name}: obs has a column {taken[0]!r} already. Give another name in the manifest.")
        table = table.rename(columns=dict(self.input.rename))
        for name, value in self.input.add:
            table[name] = value
        return table

    @functools.cached_property
    def genes(self) -> GeneTable:
        """The ids of the columns: the index of the gene table, then its columns of text."""
        var = self.var
        ids = {"index": tuple(str(gene) for gene in var.index)}
        for name in var.columns:
            values: Any = var[name]
            if values.dtype.kind not in "biufcmM" and values.nunique() > len(var) / 2:
                ids[str(name)] = tuple(map(str, values))
        return GeneTable(name=self.name, ids=ids, used=gene_features(var))


def _table(value: Any) -> "pandas.DataFrame":
    import pandas

    if not isinstance(value, pandas.DataFrame):
        raise ValueError("it is no table")
    return value


def gene_features(var: "pandas.DataFrame") -> np.ndarray:
    """bool (g,): which features are genes; all of them where the table does not say (10x column feature_types)."""
    for column in ("feature_types", "feature_type"):
        if column in var.columns:
            return (var[column].astype(str) == "Gene Expression").to_numpy()
    return np.ones(len(var), bool)


def open_source(given: Input) -> Source:
    """Open an input by what it is: h5ad, zarr, 10x h5, or a 10x folder. Its tables are read when they are asked for.

    Raises:
        InputError: it is missing, or of no such format.
    """
    with reading(str(given.path)):
        return _open(given)


def _open(given: Input) -> Source:
    from data_pipelines.ingestion.anndata_source import H5adSource, ZarrSource
    from data_pipelines.ingestion.tenx import TenxFolder, TenxH5, is_tenx_folder, is_tenx_h5

    path = given.path
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path; patterns must match at least one file.")
    if path.is_dir():
        if is_tenx_folder(path):
            return TenxFolder(given)
        if (path / "zarr.json").is_file() or (path / ".zgroup").is_file():
            return ZarrSource(given)
        raise InputError(
            f"{path} is a folder, but neither zarr nor 10x (matrix.mtx, features.tsv, barcodes.tsv). Pass files."
        )
    return TenxH5(given) if is_tenx_h5(path) else H5adSource(given)


def check_source(source: Source) -> None:
    """Require that the tables of a source and its matrix fit together.

    Raises:
        InputError: they do not, or there is nothing in it.
    """
    shape, sizes = source.matrix.shape, (len(source.raw_obs), len(source.var))
    if shape != sizes:
        raise InputError(
            f"{source.where} is {shape[0]} x {shape[1]}, but obs and var have {sizes[0]} and {sizes[1]} rows. "
            "Write the file again from a consistent AnnData."
        )
    if 0 in shape:
        raise InputError(f"{source.where} is empty: {shape[0]} cells x {shape[1]} genes. Pass a file with cells in it.")


@contextlib.contextmanager
def open_sources(inputs: Sequence[Input]) -> Iterator[list[Source]]:
    """Open and check all inputs, and close them all at the end.

    Raises:
        InputError: one is missing, of no known format, damaged or empty.
    """
    with contextlib.ExitStack() as stack:
        sources = []
        for given in inputs:
            sources.append(stack.enter_context(open_source(given)))
            check_source(sources[-1])
        yield sources
