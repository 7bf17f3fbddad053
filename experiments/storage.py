"""Where runs are kept: a folder that is mounted here, or an object store (gs://, s3://). What differs is here."""

import contextlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from data_pipelines.errors import InputError
from data_pipelines.locks import held
from data_pipelines.partial import unfinished
from lingshu_jax.buckets import in_bucket

if TYPE_CHECKING:
    from etils import epath

type Folder = pathlib.Path | epath.Path
"""A file or folder on a disk or in a bucket; both have pathlib's methods."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/")


def folder_at(place: str | os.PathLike[str]) -> Folder:
    """The path or gs://, s3:// URL as something to read and write.

    Raises:
        InputError: the URL is of another kind, or names no bucket.
    """
    text = os.fspath(place)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return pathlib.Path(text)
    if not in_bucket(text):
        raise InputError(f"{text} is no place for runs. Use a folder that is mounted here, or a gs:// or s3:// URL.")
    if not text.removeprefix(f"{scheme[1]}://").split("/")[0]:
        raise InputError(f"{text} names no bucket. Write {scheme[1]}://BUCKET/runs.")
    from etils import epath

    from lingshu_jax.buckets.files import register_buckets

    register_buckets()
    return epath.Path(text)


def absolute(place: Folder) -> Folder:
    """The same path wherever a process was started; links stay links."""
    return place if in_bucket(place) else pathlib.Path(os.path.abspath(place))


def local_cache() -> pathlib.Path:
    """A folder of this machine for what has no place in a bucket."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lingshu_jax"


def refuse_dangling(path: Folder) -> None:
    """Refuse a path that is, or leads through, a symbolic link to nothing.

    Raises:
        InputError: says which link, and to what.
    """
    if in_bucket(path):
        return
    for part in (pathlib.Path(path), *pathlib.Path(path).parents):
        if part.is_symlink() and not part.exists():
            raise InputError(
                f"{part} is a symbolic link to {os.readlink(part)}, which is not there. Mount or make that folder, or "
                f"remove the link."
            )


class Storage(Protocol):
    """What a disk and a bucket do differently."""

    def write(self, path: Folder, content: bytes) -> None:
        """Write a file of a folder that exists: whole, or not at all."""
        ...

    def modified(self, path: Folder) -> float:
        """When it was last written, in seconds."""
        ...

    def held(self, path: Folder, refusal: str) -> contextlib.AbstractContextManager[None]:
        """Hold a lock file; `Interrupted(refusal)` where another process does."""
        ...

    def lines(self, path: Folder) -> "Lines":
        """A file that grows by lines."""
        ...

    def compilation_cache(self, root: Folder) -> pathlib.Path:
        """Where compiled programs of runs under a root are kept."""
        ...

    def reading(self, path: Folder) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A file or folder where any library can read it."""
        ...

    def writing(self, path: Folder) -> contextlib.AbstractContextManager[pathlib.Path]:
        """A path where any library can write; it is in its place when the context ends well."""
        ...


class Lines(Protocol):
    """A file of JSON lines."""

    def restart(self, entries: Iterable[dict[str, Any]]) -> None:
        """Replace all lines, whole or not at all."""
        ...

    def append(self, entry: dict[str, Any]) -> None:
        """One more."""
        ...


def storage_of(path: Folder) -> Storage:
    """How files are kept there."""
    if not in_bucket(path):
        return Disk()
    from experiments.bucket import Bucket

    return Bucket()


class Disk:
    """A file system."""

    def write(self, path: Folder, content: bytes) -> None:
        with unfinished(pathlib.Path(path)) as partial:
            partial.write_bytes(content)
            partial.replace(path)

    def modified(self, path: Folder) -> float:
        return pathlib.Path(path).stat().st_mtime

    def held(self, path: Folder, refusal: str) -> contextlib.AbstractContextManager[None]:
        return held(pathlib.Path(path), refusal)

    def lines(self, path: Folder) -> "DiskLines":
        return DiskLines(path)

    def compilation_cache(self, root: Folder) -> pathlib.Path:
        return pathlib.Path(root) / ".compilation-cache"

    @contextlib.contextmanager
    def reading(self, path: Folder) -> Iterator[pathlib.Path]:
        yield pathlib.Path(path)

    @contextlib.contextmanager
    def writing(self, path: Folder) -> Iterator[pathlib.Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield pathlib.Path(path)


class DiskLines:
    """Lines are appended."""

    def __init__(self, path: Folder) -> None:
        self._path = path

    def restart(self, entries: Iterable[dict[str, Any]]) -> None:
        Disk().write(self._path, b"".join(map(line, entries)))

    def append(self, entry: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(line(entry))


def line(entry: dict[str, Any]) -> bytes:
    """An entry as it is written."""
    return json.dumps(entry).encode() + b"\n"
