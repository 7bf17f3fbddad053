"""An AnnData on disk, written from blocks of CSR rows in bounded memory: h5ad, or zarr by its suffix."""

# n cells, G genes, z stored values

import contextlib
import dataclasses
import json
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.partial import put_in_place, remove, unfinished

if TYPE_CHECKING:
    import anndata
    import pandas as pd

ZARR_SUFFIXES = (".zarr", ".store")
UNS = "lingshu"
_CHUNK = 2**18


def is_zarr(path: pathlib.Path) -> bool:
    """Whether a path asks for a zarr folder."""
    return path.suffix in ZARR_SUFFIXES


def check_out(out: pathlib.Path, *inputs: pathlib.Path | None) -> None:
    """Require that an AnnData can be written here, and that nothing is lost by it but cells written before.

    Args:
        out: where to.
        inputs: files that the command reads.

    Raises:
        InputError: there is no such folder, or an input or anything else lies here that would be lost.
    """
    if not out.parent.is_dir() or (out.is_dir() and not is_zarr(out)):
        raise InputError(f"--out {out} must name a file in a folder that exists.")
    check_input_kept("--out", out, inputs)
    if out.suffix not in (".h5ad", *ZARR_SUFFIXES):
        raise InputError(f"--out {out}: cells are written as X.h5ad, or into a folder X.zarr or X.store.")
    if _holds_something(out) and not stored_provenance(out):
        raise InputError(f"--out {out} is there already and holds no cells that a run wrote. Choose another name.")


def check_input_kept(option: str, out: pathlib.Path, inputs: Iterable[pathlib.Path | None]) -> None:
    """Require that an output is none of the inputs.

    Raises:
        InputError: it is.
    """
    there = [path for path in inputs if path is not None and path.exists() and out.exists()]
    if any(out.samefile(path) for path in there):
        raise InputError(f"{option} {out} is read by this command and would be lost. Choose another name.")


def _holds_something(path: pathlib.Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What an AnnData consists of, its matrix in blocks."""

    obs: "pd.DataFrame"
    var: "pd.DataFrame"
    blocks: Iterable[Any]
    """CSR (b, G), in order."""
    entries: int
    """z, of all blocks."""
    dtype: Any = np.int32
    uns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_contents(contents: Contents, out: pathlib.Path, partial: pathlib.Path) -> None:
    """Write `partial` block by block, then put it in the place of `out`: whole, or not at all.

    Args:
        contents: what to write.
        out: the h5ad file or zarr folder.
        partial: a path of the same file system and kind, for the time being; removed where writing fails.
    """
    from anndata.io import write_elem

    try:
        with _root(partial, zarr=is_zarr(out)) as root:
            root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            _write_matrix(root, contents, zarr=is_zarr(out))
            for name in ("obs", "var"):
                write_elem(root, name, getattr(contents, name))
            write_elem(root, "uns", dict(contents.uns))
            for name in ("obsm", "varm", "obsp", "varp", "layers"):
                write_elem(root, name, {})
        if is_zarr(out):
            import zarr

            with contextlib.suppress(Exception), warnings.catch_warnings():  # only a shortcut for readers
                warnings.simplefilter("ignore")  # zarr warns that its third format has no such shortcut yet
                zarr.consolidate_metadata(str(partial))
        put_in_place(partial, out)
    finally:
        remove(partial)


def _write_matrix(root: Any, contents: Contents, *, zarr: bool) -> None:
    group = root.create_group("X")
    shape = (len(contents.obs), len(contents.var))
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": list(shape)})
    chunk = {"chunks": (min(_CHUNK, max(1, contents.entries)),)}
    packed = {} if zarr else {"compression": "gzip", "compression_opts": 4}
    make = group.create_array if zarr else group.create_dataset
    data = make("data", shape=(contents.entries,), dtype=contents.dtype, **chunk, **packed)
    # Of one type: scipy refuses some slices of a matrix whose places and bounds differ in theirs.
    index = np.int32 if contents.entries <= np.iinfo(np.int32).max else np.int64
    indices = make("indices", shape=(contents.entries,), dtype=index, **chunk, **packed)
    indptr = np.zeros(shape[0] + 1, index)
    row = end = 0
    for block in contents.blocks:
        size = block.shape[0]
        data[end : end + block.nnz], indices[end : end + block.nnz] = block.data, block.indices
        indptr[row + 1 : row + size + 1] = end + block.indptr[1:]
        row, end = row + size, end + block.nnz
    assert (row, end) == (shape[0], contents.entries), "blocks are not what was announced"
    stored = make("indptr", shape=indptr.shape, dtype=index)
    stored[:] = indptr


@contextlib.contextmanager
def _root(path: pathlib.Path, *, zarr: bool) -> Iterator[Any]:
    if zarr:
        from zarr import open_group

        yield open_group(str(path), mode="w", zarr_format=3)
        return
    import h5py

    with h5py.File(path, "w") as file:
        yield file


def write_cells(cells: "anndata.AnnData", out: pathlib.Path) -> None:
    """Write an AnnData that is in memory in one step: whole, or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(out, out.suffix if is_zarr(out) else ".h5ad") as partial:
        if is_zarr(out):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cells.write_zarr(partial)
        else:
            cells.write_h5ad(partial, compression="gzip")
        put_in_place(partial, out)


def stored_provenance(path: pathlib.Path) -> dict[str, Any]:
    """uns['lingshu'] of an AnnData on disk; {} where it has none or cannot be read."""
    text: Any
    try:
        if path.is_dir():
            import zarr

            root: Any = zarr.open_group(str(path), mode="r")
            text = root[f"uns/{UNS}"][()]
        else:
            import h5py

            with h5py.File(path, "r") as file:
                stored: Any = file[f"uns/{UNS}"]
                text = stored[()]
        text = text.item() if hasattr(text, "item") else text
        found = json.loads(text.decode() if isinstance(text, bytes) else text)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
