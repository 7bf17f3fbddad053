"""One h5ad file as a validated source: names, obs, and counts in blocks of rows, whatever the layout of X."""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError
from data_pipelines.ingestion.matrix import Matrix, open_matrix

if TYPE_CHECKING:
    import pandas


class Source:
    """An open h5ad file. Use it as a context manager; nothing of X is read before `matrix.blocks`."""

    def __init__(self, path: str | pathlib.Path, *, layer: str | None = None) -> None:
        """Open and validate the file.

        Args:
            path: the h5ad file.
            layer: None reads X; 'raw.X' or the name of a layer reads that instead.

        Raises:
            InputError: the file is missing, is no readable h5ad, is empty, or has no such layer.
        """
        self.path = pathlib.Path(path)
        self.layer = layer
        self._file = _open(self.path)
        try:
            stored = self._counts()
            self.obs: pandas.DataFrame = self._frame("obs")
            self.genes = tuple(str(name) for name in self._frame(self._var_key).index)
            self.matrix: Matrix = open_matrix(stored, where=self.where)
            self._check_shape()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def where(self) -> str:
        """How messages name the matrix: file and slot."""
        slot = "X" if self.layer is None else self.layer if self.layer == "raw.X" else f"layers[{self.layer!r}]"
        return f"{self.path.name} ({slot})"

    @property
    def n_cells(self) -> int:
        return len(self.obs)

    @property
    def other_slots(self) -> tuple[str, ...]:
        """Values of `layer` that this file offers beside X."""
        layers = [name for name in self._file.get("layers", {}) if name != "None"]
        return (("raw.X",) if "raw" in self._file and "X" in self._file["raw"] else ()) + tuple(layers)

    def var(self) -> "pandas.DataFrame":
        """The gene table of the matrix that is read."""
        return self._frame(self._var_key)

    def uns(self, name: str) -> Any:
        """One entry of uns, or None."""
        from anndata.io import read_elem

        entry = self._file.get(f"uns/{name}")
        return None if entry is None else read_elem(entry)

    @property
    def _var_key(self) -> str:
        return "raw/var" if self.layer == "raw.X" else "var"

    def _frame(self, key: str) -> Any:
        from anndata.io import read_elem

        if key not in self._file:
            raise InputError(
                f"{self.path} has no {key}: not an AnnData file, or one cut short. Write it again as h5ad."
            )
        try:
            return read_elem(self._file[key])
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{self.path}: {key} cannot be read ({reason}). Write the file again as h5ad.") from error

    def _counts(self) -> Any:
        key = "X" if self.layer is None else "raw/X" if self.layer == "raw.X" else f"layers/{self.layer}"
        if "obs" not in self._file:
            raise InputError(f"{self.path} holds HDF5 data but no AnnData (no obs). Write it with AnnData.write_h5ad.")
        if key not in self._file:
            slots = ", ".join((*(("X",) if "X" in self._file else ()), *self.other_slots)) or "none"
            raise InputError(
                f"{self.path} has no {self.where.split('(')[1][:-1]} (present: {slots}). Choose with --layer."
            )
        return self._file[key]

    def _check_shape(self) -> None:
        shape = self.matrix.shape
        if shape != (self.n_cells, len(self.genes)):
            raise InputError(
                f"{self.where} is {shape[0]} x {shape[1]}, but obs and var have {self.n_cells} and {len(self.genes)} "
                "rows. Write the file again from a consistent AnnData."
            )
        if 0 in shape:
            raise InputError(
                f"{self.where} is empty: {shape[0]} cells x {shape[1]} genes. Pass a file with cells in it."
            )


def check_paths(files: list[pathlib.Path]) -> None:
    """Require at least one file, and no file twice.

    Raises:
        InputError: otherwise.
    """
    if not files:
        raise InputError("no h5ad file given. Pass at least one path; check that the pattern matches a file.")
    twice = sorted({str(file) for file in files if files.count(file) > 1})
    if twice:
        raise InputError(f"{twice[0]} is listed twice: its cells would count double. Pass every file once.")


def checksum(path: pathlib.Path) -> str:
    """blake2b of a file's bytes, 32 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _open(path: pathlib.Path) -> Any:
    import h5py

    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path; patterns must match at least one h5ad file.")
    if not path.is_file() or not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an h5ad file (no HDF5 inside). Write one with AnnData.write_h5ad.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened; it is probably cut short ({str(error).splitlines()[0]}). Copy or write it again."
        ) from error


@contextlib.contextmanager
def open_sources(paths: list[pathlib.Path], *, layer: str | None = None) -> Iterator[list[Source]]:
    """Open all files, and close them all at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Source(path, layer=layer)) for path in paths]
