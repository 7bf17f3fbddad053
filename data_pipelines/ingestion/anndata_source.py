"""AnnData on disk as a source: h5ad files and zarr folders, whose groups are read alike."""

import pathlib
from typing import TYPE_CHECKING, Any

from data_pipelines.contents import CONTENTS, check_contents, read_checksums
from data_pipelines.errors import InputError
from data_pipelines.ingestion.damage import reading
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import Matrix, open_matrix
from data_pipelines.ingestion.source import Source
from data_pipelines.location import Location

if TYPE_CHECKING:
    import pandas


class AnnDataSource(Source):
    """An AnnData root group; `layer` chooses X, raw.X or a layer."""

    def __init__(self, given: Input, root: Any) -> None:
        super().__init__(given)
        self._root = root

    @property
    def layer(self) -> str | None:
        return self.input.layer

    @property
    def where(self) -> str:
        return f"{self.name} ({self._slot})"

    @property
    def _slot(self) -> str:
        return "X" if self.layer is None else self.layer if self.layer == "raw.X" else f"layers[{self.layer!r}]"

    def read_matrix(self) -> Matrix:
        key = "X" if self.layer is None else "raw/X" if self.layer == "raw.X" else f"layers/{self.layer}"
        if "obs" not in self._root:
            raise InputError(f"{self.path} holds no AnnData (no obs). Write it with AnnData.write_h5ad.")
        if key not in self._root or (self.layer is None and not self.has_x):
            slots = ", ".join((*(("X",) if self.has_x else ()), *self.other_slots)) or "none"
            raise InputError(f"{self.path} has no {self._slot} (present: {slots}). Choose with --layer.")
        return open_matrix(self._root[key], where=self.where)

    @property
    def has_x(self) -> bool:
        if "X" not in self._root:
            return False
        with reading(f"{self.name} (X)"):
            stored = self._root["X"]
            # Nothing is written as an empty dataset.
            return getattr(stored, "shape", ()) is not None and stored.attrs.get("encoding-type") != "null"

    @property
    def other_slots(self) -> tuple[str, ...]:
        layers = tuple(name for name in self._group("layers") if name != "None")
        return (("raw.X",) if "X" in self._group("raw") else ()) + layers

    def _group(self, name: str) -> Any:
        """A group of the root; an empty one where there is none, or something else of this name."""
        found = self._root.get(name)
        return found if hasattr(found, "keys") else {}

    def read_obs(self) -> "pandas.DataFrame":
        return self._frame("obs")

    def read_var(self) -> "pandas.DataFrame":
        return self._frame("raw/var" if self.layer == "raw.X" else "var")

    def read_uns(self, name: str) -> Any:
        from anndata.io import read_elem

        key = f"uns/{name}"
        return read_elem(self._root[key]) if key in self._root else None

    def _frame(self, key: str) -> Any:
        from anndata.io import read_elem

        if key not in self._root:
            raise InputError(
                f"{self.path} has no {key}: not an AnnData file, or one cut short. Write it again as h5ad."
            )
        return read_elem(self._root[key])


class H5adSource(AnnDataSource):
    """An h5ad file."""

    def __init__(self, given: Input) -> None:
        """Open the file.

        Raises:
            InputError: it is no HDF5, or cut short.
        """
        super().__init__(given, _open_hdf5(given.path))

    def close(self) -> None:
        self._root.close()


class ZarrSource(AnnDataSource):
    """An AnnData written as zarr."""

    def __init__(self, given: Input) -> None:
        """Open the folder.

        Raises:
            InputError: it is no zarr group.
        """
        import zarr

        try:
            root = zarr.open_group(given.path, mode="r")
        except Exception as error:
            raise InputError(
                f"{given.path} cannot be opened as zarr ({str(error).splitlines()[0]}). "
                "Write it with AnnData.write_zarr."
            ) from error
        place = Location(given.path)
        if place.exists(CONTENTS):  # a cell store is an input like any other, but knows what it should hold
            check_contents(place, read_checksums(place))
        super().__init__(given, root)


def _open_hdf5(path: pathlib.Path) -> Any:
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an h5ad file (no HDF5 inside). Write one with AnnData.write_h5ad.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened; it is probably cut short ({str(error).splitlines()[0]}). Copy or write it again."
        ) from error
