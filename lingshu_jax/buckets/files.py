"""Files in object stores (gs://, s3://) for `etils.epath`, through which Orbax and runs read and write them: obstore.

Credentials, region and endpoint come from the environment and the machine's role, as for the cloud's own programs.
"""

import contextlib
import datetime
import errno
import functools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import fsspec
import obstore
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

_BLOCK = 8 * 2**20
_PATIENCE = datetime.timedelta(seconds=60)
_REASON = re.compile(r"<Message>(.*?)</Message>|\"message\": *\"(.*?)\"|reason=(.*)", re.DOTALL)


def register_buckets() -> None:
    """Have `epath.Path` read and write gs:// and s3:// by this module."""
    for name, kind in (("s3", S3Files), ("gs", GoogleFiles), ("gcs", GoogleFiles)):
        fsspec.register_implementation(name, kind, clobber=True)


def place_of(url: str) -> tuple[ObjectStore, str]:
    """The bucket of a URL, and the key in it."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return _bucket(f"{scheme}://{bucket}"), key


def upload(file: pathlib.Path, url: str) -> None:
    """Write a file of this machine to a URL: whole, or not at all."""
    store, key = place_of(url)
    with told_as_system_errors(url):
        obstore.put(store, key, file)


@functools.cache
def _bucket(url: str) -> ObjectStore:
    client = {"allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"), "timeout": "120s"}
    return from_url(url, client_options=client, retry_config={"max_retries": 8, "retry_timeout": _PATIENCE})  # type: ignore[arg-type]


@contextlib.contextmanager
def told_as_system_errors(url: str) -> Iterator[None]:
    """Turn what an object store refuses into the OSError that a disk would raise.

    Raises:
        FileNotFoundError: there is no such object or bucket.
        PermissionError: who we are is not known, or may not.
        OSError: it does not answer, or says something else.
    """
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        said = _said(error)
        why = said if "bucket" in said else os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, why, url) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise PermissionError(errno.EACCES, f"not allowed ({_said(error)})", url) from error
    except BaseError as error:
        raise OSError(errno.EIO, f"cannot be reached ({_said(error)})", url) from error


def _said(error: BaseException) -> str:
    """The store's own word in obstore's page of text."""
    found = _REASON.search(str(error))
    text = next((part for part in found.groups() if part), "") if found else str(error)
    return " ".join((text.strip().splitlines() or ["no reason given"])[0].split())[:200]


class BucketFiles(AbstractFileSystem):
    """Objects as files. A folder is what objects have in front of a slash; one that was made here is there, too."""

    root_marker = ""
    _scheme = ""

    def __init__(self, **options: Any) -> None:
        """What epath asks for beside is for other implementations."""
        super().__init__(use_listings_cache=False)
        self._made: set[str] = set()

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Size, kind and time of a file or folder."""
        path = self._key(path)
        store, key = self._place(path)
        if key:
            with contextlib.suppress(FileNotFoundError), told_as_system_errors(self._url(path)):
                return self._file(path, obstore.head(store, key))
        if not key or path in self._made or any(self._entries(path)):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._url(path))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Entries of a folder, or the file itself."""
        path = self._key(path)
        entries = list(self._entries(path))
        if not entries and path not in self._made:
            entries = [self.info(path)]
        return entries if detail else [entry["name"] for entry in entries]

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is a file or folder; no answer is an error, and no proof that there is none."""
        return self._kind(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        return self._kind(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return self._kind(path) == "file"

    def walk(self, path: str, *depth: Any, **options: Any) -> Any:
        """Folders and files below; `find` and `glob` look by it."""
        return super().walk(path, *depth, **{**options, "on_error": _raise_unless_missing})

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember the folder until something is in it: an object store has no empty ones."""
        path = self._key(path)
        if not exist_ok and self.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._url(path))
        parts = path.split("/")
        self._made |= {"/".join(parts[:end]) for end in range(2, len(parts) + 1)}

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """As `makedirs`."""
        self.makedirs(path, exist_ok=True)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete a file, or everything in a folder."""
        path = self._key(path)
        store, key = self._place(path)
        with told_as_system_errors(self._url(path)):
            keys = [found["path"] for batch in obstore.list(store, f"{key}/") for found in batch] if recursive else []
            made = {folder for folder in self._made if f"{folder}/".startswith(f"{path}/")}
            if not keys and not made:
                obstore.head(store, key)
                keys = [key]
            self._made -= made
            if keys:
                obstore.delete(store, keys)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file, or everything in a folder, inside a bucket and without reading; then delete it."""
        path1, path2 = self._key(path1), self._key(path2)
        (store, key), (_, other) = self._place(path1), self._place(path2)
        with told_as_system_errors(self._url(path1)):
            inside = [found["path"] for batch in obstore.list(store, f"{key}/") for found in batch]
            for name in inside or [key]:
                obstore.copy(store, name, other + name.removeprefix(key))
        self.rm(path1, recursive=bool(inside))

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **options: Any) -> "BucketFile":  # type: ignore[override]
        return BucketFile(self, path, mode=mode, block_size=_BLOCK)  # type: ignore[arg-type]

    def _kind(self, path: str) -> str | None:
        try:
            return self.info(path)["type"]
        except FileNotFoundError:
            return None

    def _entries(self, path: str) -> Iterator[dict[str, Any]]:
        store, key = self._place(path)
        bucket = path.split("/", 1)[0]
        with told_as_system_errors(self._url(path)):
            found = obstore.list_with_delimiter(store, f"{key}/" if key else None)
        for prefix in found["common_prefixes"]:
            yield {"name": f"{bucket}/{prefix.rstrip('/')}", "size": 0, "type": "directory"}
        for entry in found["objects"]:
            yield self._file(f"{bucket}/{entry['path']}", entry)

    def _file(self, path: str, found: Any) -> dict[str, Any]:
        return {"name": path, "size": found["size"], "type": "file", "mtime": found["last_modified"]}

    def _place(self, path: str) -> tuple[ObjectStore, str]:
        return place_of(self._url(self._key(path)))

    def _key(self, path: str) -> str:
        return str(self._strip_protocol(path))

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{path}"


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


class S3Files(BucketFiles):
    """s3://"""

    protocol = "s3"
    _scheme = "s3"


class GoogleFiles(BucketFiles):
    """gs://"""

    protocol = ("gs", "gcs")
    _scheme = "gs"


class BucketFile(AbstractBufferedFile):
    """Reads ranges; writes everything when it is closed, whole or not at all."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        store, key = self.fs._place(self.path)
        with told_as_system_errors(self.fs._url(self.path)):
            return bytes(obstore.get_range(store, key, start=start, end=end))

    def _initiate_upload(self) -> None:
        pass

    def _upload_chunk(self, final: bool = False) -> bool:
        if final:
            store, key = self.fs._place(self.path)
            with told_as_system_errors(self.fs._url(self.path)):
                obstore.put(store, key, self.buffer.getvalue())
        return final
