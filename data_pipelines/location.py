"""A folder on a disk or in an object store, by one interface: TensorStore's key-value stores (file, gs://, s3://).

Zarr groups are read and written through the same key-value store, so what holds on a disk holds in a bucket.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError
from data_pipelines.system_errors import told_as_system_errors

if TYPE_CHECKING:
    import tensorstore
    from zarr.abc.store import Store

_URL = re.compile(r"^(gs|s3|memory|file)://")
_WHOLE_URL = re.compile(r"^((gs|s3|memory)://[^/]|file:///)")
_CACHE_BYTES = 256 * 2**20
"""Decoded chunks that stay in memory: neighbouring slabs share chunks."""


class Location:
    """One folder. Cheap to make and to send to another process; nothing is opened before it is used."""

    def __init__(self, url: "str | pathlib.Path | Location") -> None:
        """Take a path or a gs://, s3://, memory:// or file:// URL.

        Raises:
            InputError: the URL is of a kind that cannot be stored in, or no whole path or URL.
        """
        text = str(url)
        shown = " ".join(text.split())
        if not text or "\0" in text:
            raise InputError(f"{text!r} is no path. Pass a folder, or a gs://, s3:// or file:// URL.")
        if text.startswith("file:") and not text.startswith("file:///"):
            raise InputError(f"{shown} is no file URL of this machine. Write file:///FOLDER, or the path alone.")
        if _URL.match(text) and not _WHOLE_URL.match(text):
            raise InputError(f"{shown} names no bucket. Write gs://BUCKET/STORE or s3://BUCKET/STORE.")
        if "://" in text and not _URL.match(text):
            raise InputError(f"{shown} cannot be stored in. Use a path, or a gs://, s3:// or file:// URL.")
        self.url = text.removeprefix("file://").rstrip("/") or "/"

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Location({self.url!r})"

    def __fspath__(self) -> str:
        """The path, for whatever opens files of this machine.

        Raises:
            TypeError: the folder is in an object store.
        """
        if self.path is None:
            raise TypeError(f"{self.url} is no folder of this machine's file system.")
        return self.url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str) -> "Location":
        return Location(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def path(self) -> pathlib.Path | None:
        """The folder on this machine's file system; None in an object store."""
        return None if _URL.match(self.url) else pathlib.Path(self.url)

    @property
    def in_memory(self) -> bool:
        """Whether it is of this process alone."""
        return self.url.startswith("memory://")

    def spec(self) -> dict[str, Any] | str:
        """The TensorStore key-value store of this folder."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if self.url.startswith("s3://") and endpoint:
            bucket, _, key = f"{self.url}/".removeprefix("s3://").partition("/")
            region = os.environ.get("AWS_REGION", "us-east-1")
            return {"driver": "s3", "bucket": bucket, "path": key, "endpoint": endpoint, "aws_region": region}
        if self.path is None:
            return f"{self.url}/"
        return {"driver": "file", "path": os.path.abspath(self.path) + "/"}

    def read(self, key: str) -> bytes | None:
        """The bytes stored under `key`, None where there are none."""
        found = self.kvstore.read(key).result()
        return bytes(found.value) if found.state == "value" else None

    def write(self, key: str, value: bytes) -> None:
        """Store bytes under `key`, whole or not at all."""
        with told_as_system_errors(self / key):
            self.kvstore.write(key, value).result()

    def exists(self, key: str) -> bool:
        """Whether something is stored under `key` itself."""
        return bool(self.list_keys(key, exactly=True))

    def list_keys(self, prefix: str = "", *, exactly: bool = False) -> list[str]:
        """Every key that begins with `prefix`, at any depth; sorted."""
        import tensorstore

        # The narrowest ranges in byte order: up to the key with a zero byte, or to the next prefix.
        end = prefix + "\0" if exactly else prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        with told_as_system_errors(self):
            keys = self.kvstore.list(tensorstore.KvStore.KeyRange(prefix, end)).result()
        return sorted(key.decode() for key in keys)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete what is stored under these keys."""
        with told_as_system_errors(self):
            for pending in [self.kvstore.write(key, None) for key in keys]:
                pending.result()

    def array(
        self, name: str, *, write: bool = False, cache: "tensorstore.Context | None" = None
    ) -> "tensorstore.TensorStore":
        """An existing zarr array of the folder.

        Args:
            name: its key.
            write: whether it is to be written as well.
            cache: of `new_cache`, where decoded chunks are to stay in memory; without it nothing stays.

        Raises:
            InputError: there is none, or its metadata are damaged or of a codec that is not known.
        """
        import tensorstore

        spec = {
            "driver": "zarr3",
            "kvstore": (self / name).spec(),
            "recheck_cached_data": False,
            "recheck_cached_metadata": False,
        }
        try:
            return tensorstore.open(spec, open=True, read=True, write=write, context=cache or _context()).result()
        except ValueError as error:
            said = str(error).split(" [")[0].splitlines()[0][:300]
            raise InputError(
                f"{self / name} cannot be opened ({said}). Copy the store again, or ingest again."
            ) from error

    def zarr(self, *, read_only: bool = True, checksums: Mapping[str, str] | None = None) -> "Store":
        """The folder as zarr's own kind of store; what is read is compared with the checksums that are given."""
        from data_pipelines.zarr_store import KeyValueStore

        return KeyValueStore(self, read_only=read_only, checksums=checksums or {})

    @functools.cached_property
    def kvstore(self) -> "tensorstore.KvStore":
        """Opened on first use."""
        import tensorstore

        return tensorstore.KvStore.open(self.spec(), context=_context()).result()

    def __reduce__(self) -> Any:
        return Location, (self.url,)


def new_cache() -> "tensorstore.Context":
    """A cache of decoded chunks. It trusts what it holds: another store at the same place needs another cache."""
    import tensorstore

    return tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}}, _context())


@functools.cache
def _context() -> "tensorstore.Context":
    """One for the process, so that there is one memory:// for all. It keeps no chunk."""
    import tensorstore

    return tensorstore.Context({"cache_pool": {}})
