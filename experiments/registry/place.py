"""Where the registry is: the MLflow server that the environment names, or an SQLite file of this machine."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import time
import urllib.parse
from collections.abc import Iterator, Mapping

from data_pipelines.errors import InputError
from experiments.storage import Folder, local_cache
from lingshu_jax.buckets import in_bucket

SWITCH, SERVER = "LINGSHU_REGISTRY", "MLFLOW_TRACKING_URI"
_NETWORK = (
    "nfs", "cifs", "smb", "lustre", "ceph", "gpfs", "beegfs", "glusterfs", "afs", "9p", "wekafs", "pvfs", "panfs",
    "virtiofs", "fuse.",
)  # fmt: skip
_LOCAL_FUSE = ("fuse.fuse-overlayfs",)
_SQLITE = "sqlite:///"


@dataclasses.dataclass(frozen=True)
class RegistryPlace:
    """An MLflow tracking URI; where it is a file of this machine, that too."""

    uri: str
    file: pathlib.Path | None = None

    @classmethod
    def of(cls, root: Folder, environment: Mapping[str, str] = os.environ) -> "RegistryPlace | None":
        """The registry of a folder of runs; None where it is switched off.

        Raises:
            InputError: the switch has another value than `none`, or the server's address is none.
        """
        switch = environment.get(SWITCH, "")
        if switch == "none":
            return None
        if switch:
            raise InputError(f"{SWITCH}={switch!r} means nothing. Write none, or leave it out.")
        uri = environment.get(SERVER)
        if uri:
            try:
                urllib.parse.urlsplit(uri)
            except ValueError as error:
                raise InputError(f"{SERVER}={uri!r} is no address ({error}). Write http://HOST:PORT.") from error
            path = uri.removeprefix(_SQLITE)
            return cls(uri, pathlib.Path(path) if path != uri else None)
        file = local_file(root)
        return cls(f"{_SQLITE}{file}", file)

    @property
    def shown(self) -> str:
        """The file, or the URI without a password."""
        if self.file is not None:
            return str(self.file)
        parts = urllib.parse.urlsplit(self.uri)
        return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @contextlib.contextmanager
    def written(self, run: str, *, seconds: float = 60.0) -> Iterator[None]:
        """Be the only process of this machine that writes: to a file, or of one run to a server.

        Raises:
            TimeoutError: another one writes for longer than this.
        """
        name = hashlib.sha256(f"{self.uri} {'' if self.file else run}".encode()).hexdigest()[:16]
        path = local_cache() / "registry" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        limit = time.monotonic() + seconds
        with path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > limit:
                        raise TimeoutError(f"another process has written to it for {seconds:.0f} s") from None
                    time.sleep(0.05)
            yield


def local_file(root: Folder) -> pathlib.Path:
    """The SQLite file of a folder of runs: in it, or in this machine's cache where it is not on a disk of its own.

    SQLite's write-ahead log needs memory that its processes share, and file locks that work: no network has either.
    """
    place = root_key(root)
    if not in_bucket(root) and not on_network(pathlib.Path(place)):
        return pathlib.Path(place) / "registry.db"
    return local_cache() / "registry" / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.db"


def root_key(root: Folder) -> str:
    """A folder of runs as every process of this machine writes it."""
    return str(root) if in_bucket(root) else str(pathlib.Path(root).resolve())


def on_network(folder: pathlib.Path, mounts: pathlib.Path = pathlib.Path("/proc/self/mounts")) -> bool:
    """Whether a resolved folder lies on a network file system, as far as this system tells."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return False
    kinds = {
        line[1].replace("\\040", " "): line[2] for line in lines if len(line) > 2
    }  # a later mount hides an earlier
    kind = next((kinds[str(part)] for part in (folder, *folder.parents) if str(part) in kinds), "")
    return kind.startswith(_NETWORK) and kind not in _LOCAL_FUSE
