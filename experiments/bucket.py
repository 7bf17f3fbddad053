"""Runs in an object store: every object is written whole; what needs a file of this machine is copied."""

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, cast

from etils import epath

from experiments.leases import leased
from experiments.storage import Folder, line, local_cache
from lingshu_jax.buckets import in_bucket
from lingshu_jax.buckets.files import upload


class Bucket:
    """A gs:// or s3:// URL."""

    def write(self, path: Folder, content: bytes) -> None:
        path.write_bytes(content)

    def modified(self, path: Folder) -> float:
        return float(cast(epath.Path, path).stat().mtime)

    def held(self, path: Folder, refusal: str) -> contextlib.AbstractContextManager[None]:
        return leased(str(path), refusal)

    def lines(self, path: Folder) -> "BucketLines":
        return BucketLines(path)

    def compilation_cache(self, root: Folder) -> pathlib.Path:
        return local_cache() / "compilation"

    @contextlib.contextmanager
    def reading(self, path: Folder) -> Iterator[pathlib.Path]:
        with tempfile.TemporaryDirectory() as scratch:
            local = pathlib.Path(scratch) / path.name
            _copy(path, local)
            yield local

    @contextlib.contextmanager
    def writing(self, path: Folder) -> Iterator[pathlib.Path]:
        scratch = local_cache() / "unfinished" / hashlib.sha256(str(path).encode()).hexdigest()[:16]
        scratch.mkdir(parents=True, exist_ok=True)
        yield scratch / path.name  # what a job leaves here when it fails or is killed, the next one finds
        _copy(scratch / path.name, path)
        shutil.rmtree(scratch)


class BucketLines:
    """An object cannot grow: all lines are kept here, and written again with each one."""

    def __init__(self, path: Folder) -> None:
        self._path, self._text = path, b""

    def restart(self, entries: Iterable[dict[str, Any]]) -> None:
        self._text = b"".join(map(line, entries))
        self._path.write_bytes(self._text)

    def append(self, entry: dict[str, Any]) -> None:
        self._text += line(entry)
        self._path.write_bytes(self._text)


def _copy(source: Folder, target: Folder) -> None:
    """A file, or everything in a folder, between a disk and a bucket."""
    if source.is_dir():
        for entry in source.iterdir():
            _copy(cast(Folder, entry), cast(Folder, target / entry.name))
        return
    if in_bucket(target):
        return upload(pathlib.Path(source), str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 2**24)
