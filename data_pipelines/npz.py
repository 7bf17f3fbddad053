"""Arrays from an npz file, and nothing but arrays: no objects, nothing that a header promises and the file lacks."""

import io
import math
import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np

_MOST_DEFLATED = 1032
"""Bytes that one byte of a zip file can stand for."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(file: pathlib.Path | bytes, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file; `names` or all of them.

    Raises:
        ValueError: it is none, lacks a name, is damaged, or holds objects or something that is no array.
        OSError: it may not be read.
    """
    size = len(file) if isinstance(file, bytes) else file.stat().st_size
    try:
        with np.load(io.BytesIO(file) if isinstance(file, bytes) else file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile) or arrays.zip is None:
                raise ValueError("it is no npz file")
            wanted = arrays.files if names is None else list(names)
            for name in wanted:
                _check(arrays.zip, f"{name}.npy", size)
            return {name: arrays[name] for name in wanted}
    except (OSError, MemoryError, ValueError):
        raise
    except Exception as error:  # zip, zlib, struct and numpy's parser of headers each raise their own
        said = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(str(said) or type(error).__name__) from error


def _check(archive: zipfile.ZipFile, member: str, size: int) -> None:
    """Require an array of numbers or text that has the bytes it declares, before memory is taken for it."""
    info = archive.getinfo(member)
    if info.compress_size > size or info.file_size > _MOST_DEFLATED * (info.compress_size + 1):
        raise ValueError(f"{member} declares more bytes than the file can hold")
    with archive.open(info) as stored:
        version = np.lib.format.read_magic(stored)
        if version not in _HEADERS:
            raise ValueError(f"{member} is of an npy version that is not written here")
        shape, _, kind = _HEADERS[version](stored)
    if kind.hasobject:
        raise ValueError(f"{member} holds objects")
    if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize > info.file_size:
        raise ValueError(f"{member} declares more values than it holds")
