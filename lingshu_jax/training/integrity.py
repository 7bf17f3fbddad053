"""Is a checkpoint on disk what was saved? CRC-32C sums of every file, written before the checkpoint gets its name."""

import concurrent.futures
import dataclasses
import errno
import json
from collections.abc import Iterable

import google_crc32c
from etils import epath

from lingshu_jax.buckets import in_bucket

CHECKSUMS = "checksums.json"
ORBAX_INDEX = "_CHECKPOINT_METADATA"
"""Orbax writes the time into it when all else is written: it is only known to be JSON."""
_CHUNK = 4 * 2**20
_THREADS = 8


@dataclasses.dataclass(frozen=True)
class FileSum:
    """Size in bytes and CRC-32C of a file."""

    size: int
    crc32c: int


def write_checksums(folder: epath.Path) -> None:
    """Sum every file under a folder into one file of it."""
    names = sorted(name for name in _files(folder) if name not in (CHECKSUMS, ORBAX_INDEX))
    sums = {name: dataclasses.asdict(found) for name, found in zip(names, _sums(folder, names), strict=True)}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1))


def difference(folder: epath.Path, items: Iterable[str] | None = None) -> str | None:
    """What is missing from a checkpoint or has not its size, as a phrase that names the file; None where nothing is.

    Reads one file only. Without checksums it is whole when Orbax has finished it.

    Args:
        folder: the checkpoint.
        items: only these items (folders of it) are looked at, since only they will be read; None looks at all.

    Raises:
        OSError: it may not be read, or the bucket does not answer: that says nothing of the checkpoint.
    """
    try:
        for name, was in _expected(folder, items).items():
            path = folder / name
            if not path.exists():
                return f"{name} is missing"
            if (size := path.stat().length) != was.size:
                return f"{name} has {size:,} bytes of {was.size:,}"
        if not (folder / ORBAX_INDEX).exists():
            return f"{ORBAX_INDEX} is missing"
    except FileNotFoundError:
        return _unfinished(folder, items)
    except OSError as error:
        _require_damage(error, folder)
        return f"{CHECKSUMS} cannot be read"
    except (ValueError, TypeError, AttributeError):
        return f"{CHECKSUMS} cannot be read"
    try:
        json.loads((folder / ORBAX_INDEX).read_text())
    except (OSError, ValueError):
        return f"{ORBAX_INDEX} cannot be read"
    return None


def damage(folder: epath.Path, items: Iterable[str] | None = None) -> str | None:
    """`difference`, and which file has other contents than were written. Reads everything."""
    wrong = difference(folder, items)
    if wrong is not None or not has_checksums(folder):
        return wrong
    expected = _expected(folder, items)
    try:
        for (name, was), found in zip(expected.items(), _sums(folder, list(expected)), strict=True):
            if found != was:
                return f"{name} is not what was written"
    except OSError as error:
        _require_damage(error, folder)
        return f"{error.filename or 'a file'} cannot be read ({error.strerror or error})"
    return None


def has_checksums(folder: epath.Path) -> bool:
    """Whether what a checkpoint holds can be checked; one that another program saved may have none."""
    return (folder / CHECKSUMS).exists()


def added(folder: epath.Path) -> list[str]:
    """Files of a checkpoint that were not saved with it, sorted: Orbax reads some by their names."""
    listed = {CHECKSUMS, ORBAX_INDEX, *_expected(folder, None)}
    return sorted(set(_files(folder)) - listed)


def _require_damage(error: OSError, folder: epath.Path) -> None:
    """Raise what is no damage: a disk that cannot read a file has lost it, a bucket that does not answer has not."""
    lost = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    if not lost and (error.errno != errno.EIO or in_bucket(folder)):
        raise error


def _unfinished(folder: epath.Path, items: Iterable[str] | None) -> str | None:
    """What a checkpoint without checksums lacks of what Orbax itself would have finished; None where nothing."""
    if not any(folder.iterdir()):
        return "its folder is empty"
    try:
        index = json.loads((folder / ORBAX_INDEX).read_text())
        wanted = sorted(index["item_handlers"] if items is None else items)
        finished = index["commit_timestamp_nsecs"] is not None
    except (OSError, ValueError, TypeError, KeyError):
        finished, wanted = False, []
    if not finished:
        return "it was not written to the end"
    empty = (name for name in wanted if not (folder / name).exists() or not any((folder / name).iterdir()))
    return next((f"{name} is missing" for name in empty), None)


def _expected(folder: epath.Path, items: Iterable[str] | None) -> dict[str, FileSum]:
    sums = json.loads((folder / CHECKSUMS).read_text())
    if not sums:
        raise ValueError("no checkpoint is without files")
    return {name: FileSum(**entry) for name, entry in sums.items() if items is None or name.split("/")[0] in items}


def _files(folder: epath.Path, prefix: str = "") -> Iterable[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _sums(folder: epath.Path, names: list[str]) -> Iterable[FileSum]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda name: _sum(folder / name), names)


def _sum(path: epath.Path) -> FileSum:
    size, checksum = 0, google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            checksum.update(chunk)
    return FileSum(size, int.from_bytes(checksum.digest(), "big"))
