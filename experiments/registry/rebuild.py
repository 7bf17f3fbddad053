"""The registry made anew from the run folders."""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.load import warn
from experiments.progress import StageProgress
from experiments.registry.place import RegistryPlace, root_key
from experiments.registry.record import in_short
from experiments.registry.records import RunRecords, read_records
from experiments.runs import RunFolder
from experiments.storage import Folder


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """How much was written."""

    runs: int
    jobs: int


def rebuild_index(place: RegistryPlace, root: Folder, runs: Sequence[RunFolder]) -> Rebuilt:
    """Forget what the registry has of these runs and of this folder of runs, and write it again.

    Raises:
        InputError: the registry cannot be written.
    """
    from experiments.registry.index import MlflowIndex

    records = [record for run in runs if (record := _readable(run)) is not None]
    with StageProgress("runs") as progress:
        try:
            with place.written(""):
                _set_aside_damaged(place)
                index = MlflowIndex.open(place)
                index.forget(root_key(root), [record.key for record in records])
            for number, record in enumerate(records):
                with place.written(record.key):
                    index.sync(record)
                progress("registry", number + 1, len(records))
        except Exception as error:
            raise InputError(
                f"the registry {place.shown} cannot be written ({in_short(error)}). A file of another version "
                f"can be removed: give the command again. A server must be running."
            ) from error
    return Rebuilt(len(records), sum(len(record.jobs) for record in records))


def _set_aside_damaged(place: RegistryPlace) -> None:
    """Give a file that is no database another name. MLflow must not have seen it: it keeps what it has opened."""
    if place.file is None or not place.file.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(place.file)) as file:
            file.execute("pragma schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise  # a full disk has damaged nothing
        aside = place.file.with_name(f"{place.file.name}.damaged")
        warn(f"{place.file} cannot be used ({error}). It is now {aside.name}.")
        for suffix in ("-wal", "-shm"):
            place.file.with_name(place.file.name + suffix).unlink(missing_ok=True)
        place.file.replace(aside)


def _readable(run: RunFolder) -> RunRecords | None:
    try:
        return read_records(run)
    except (InputError, KeyError, TypeError, AttributeError, ValueError) as error:
        warn(f"{run.path} is left out: {error}")
        return None
