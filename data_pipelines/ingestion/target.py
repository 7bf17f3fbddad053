"""Where a store is to lie: whether it can, whether it lies there already, and how it gets there."""

import errno
import os
import pathlib
import shutil
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from data_pipelines.location import Location

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

_LONGEST_NAME = 255
"""Bytes, on the file systems of today."""
_ROOM = 40
"""Bytes that the names of hidden folders beside a store are longer than its own."""


def usable_target(out: str | pathlib.Path) -> Location:
    """The place for a store, before anything is done for it.

    Raises:
        InputError: no folder can be made there.
    """
    target = Location(out)
    if target.path is None:
        return target
    path = target.path.absolute()
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > _LONGEST_NAME or len(os.fsencode(path.name)) > _LONGEST_NAME - _ROOM:
        raise InputError(
            f"{str(target)[:60]}... is too long a name ({longest} bytes). Choose an --out of at most "
            f"{_LONGEST_NAME - _ROOM} bytes."
        )
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not there.is_dir():
        what = "is a link to nothing" if there.is_symlink() else "is no folder"
        raise InputError(f"{there} {what}: no store can lie there. Choose another --out.")
    return target


def work_folder(target: Location, scratch: str | pathlib.Path | None) -> pathlib.Path:
    """The folder for what is half done.

    Raises:
        InputError: it must be named, because the target is no folder of this machine.
    """
    if scratch is None and target.path is None:
        raise InputError(f"{target} is no folder of this machine: pass --scratch FOLDER for what is half done.")
    parent = target.path.absolute().parent if scratch is None else pathlib.Path(scratch)  # type: ignore[union-attr]
    return parent / f".{target.name}.partial"


def existing_store(target: Location, identity: str) -> "CellStore | None":
    """The store at the target if it is this very one; None if there is nothing.

    Raises:
        InputError: something else is there.
    """
    path = target.path
    if path is not None and not path.exists():
        return None
    if path is not None and path.is_dir() and not any(path.iterdir()):
        path.rmdir()
        return None
    if path is None and not target.exists("zarr.json"):
        return None
    from data_pipelines.store import CellStore

    try:
        store = CellStore.open(target)
    except InputError:
        raise InputError(
            f"{target} exists and is no complete cell store. Remove it, or choose another --out."
        ) from None
    if store.hash == identity:
        return store
    raise InputError(
        f"{target} already holds another cell store (hash {store.hash}; these inputs and settings give {identity}). "
        "Remove it, or choose another --out."
    )


def publish(made: pathlib.Path, target: pathlib.Path, identity: str) -> None:
    """Move a finished store to its place, where it appears whole.

    Args:
        made: the folder in which it was made.
        target: does not exist.
        identity: of the store. What was copied to another file system before a kill is not copied again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        arriving = target.absolute().parent / f".{target.name}.{identity}.arriving"
        _copy(made, arriving)
        arriving.rename(target)


def _copy(made: pathlib.Path, arriving: pathlib.Path) -> None:
    """Copy what is not there yet, every file whole or not at all."""
    for file in sorted(file for file in made.rglob("*") if file.is_file()):
        there = arriving / file.relative_to(made)
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            half = there.with_name(f"{there.name}.half")
            shutil.copyfile(file, half)
            half.rename(there)
