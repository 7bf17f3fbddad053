"""Damage of what lies on a disk: bits that flip, files that are cut or missing, in stores and in checkpoints."""

import contextlib
import dataclasses
import pathlib
import random
import shutil
from typing import Protocol

import numpy as np

from data_pipelines import CellStore, load_split, load_statistics
from data_pipelines.errors import InputError
from experiments.chaos.scenarios import Base
from experiments.chaos.trial import Violation


class Damage(Protocol):
    """One way in which a file is damaged."""

    @property
    def name(self) -> str:
        """As the table has it."""
        ...

    def do(self, file: pathlib.Path, draws: random.Random) -> None:
        """Damage a file that is not empty."""
        ...


@dataclasses.dataclass(frozen=True)
class FlippedBit:
    """One bit of a file is another."""

    name: str = "bit flipped"

    def do(self, file: pathlib.Path, draws: random.Random) -> None:
        content = bytearray(file.read_bytes())
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        file.write_bytes(content)


@dataclasses.dataclass(frozen=True)
class Truncated:
    """A file ends too early."""

    name: str = "file cut"

    def do(self, file: pathlib.Path, draws: random.Random) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: draws.randrange(len(content))])


@dataclasses.dataclass(frozen=True)
class Missing:
    """A file is gone."""

    name: str = "file missing"

    def do(self, file: pathlib.Path, draws: random.Random) -> None:
        file.unlink()


class Stored(Protocol):
    """Something on a disk that is read back."""

    name: str

    def copy(self, folder: pathlib.Path) -> pathlib.Path:
        """A copy to damage: the folder whose files are drawn from."""
        ...

    def read(self, folder: pathlib.Path) -> object:
        """Everything that is read of it."""
        ...

    def names(self, folder: pathlib.Path, file: pathlib.Path, said: str) -> bool:
        """Whether a refusal names what is damaged."""
        ...


class Store:
    """A cell store with its split and statistics."""

    name = "store"

    def __init__(self, base: Base) -> None:
        self._base = base

    def copy(self, folder: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(shutil.copytree(self._base.store, folder / "cells.store"))

    def read(self, folder: pathlib.Path) -> object:
        store = CellStore.open(folder)
        counts = store.counts(np.arange(store.n_cells))
        split = load_split(store)
        statistics = load_statistics(store, split)
        arrays = (counts.data, counts.indices, counts.indptr, store.measured, statistics.mean)
        return [
            [array.tobytes() for array in arrays],
            [store.hash, store.obs.to_csv(), store.var.to_csv(), split.hash, split.kind, split.settings],
            [repr(statistics.conditions), repr(statistics.vocabulary)],
        ]

    def names(self, folder: pathlib.Path, file: pathlib.Path, said: str) -> bool:
        key = str(file.relative_to(folder))
        if key == "zarr.json" and not file.exists():
            return f"{folder} is not a cell store" in said
        several = {"statistics/": f"{folder}/statistics/", "splits/": "split 'default'"}
        return key in said or any(key.startswith(part) and shown in said for part, shown in several.items())


class Checkpoint:
    """The newest checkpoint of a run, as training goes on from it."""

    name = "checkpoint"

    def __init__(self, base: Base) -> None:
        self._base = base

    def copy(self, folder: pathlib.Path) -> pathlib.Path:
        shutil.copytree(self._base.run.checkpoints, folder / "checkpoints")
        return folder / "checkpoints" / str(self._base.run.saved_steps()[-1])

    def read(self, folder: pathlib.Path) -> object:
        from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints
        from lingshu_jax.training.write_errors import silence_orbax

        silence_orbax()
        told: list[str] = []
        try:
            with contextlib.closing(Checkpoints(folder.parent, read_only=True, warn=told.append)) as checkpoints:
                newest = checkpoints.latest_step()
        except CheckpointError as error:
            raise InputError(str(error)) from error
        if told:
            raise InputError(told[0])
        return newest

    def names(self, folder: pathlib.Path, file: pathlib.Path, said: str) -> bool:
        return str(folder) in said


def damaged(stored: Stored, damage: Damage, folder: pathlib.Path, draws: random.Random) -> str:
    """Damage one file that is drawn by its size, so that what holds most is hit most; what happened, in a few words.

    Raises:
        Violation: something else is read than was written, or the refusal does not name the file.
    """
    folder.mkdir(parents=True)
    copy = stored.copy(folder)
    before = stored.read(copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
    file = draws.choices(files, [1000 + path.stat().st_size for path in files])[0]
    damage.do(file, draws)
    try:
        after = stored.read(copy)
    except InputError as error:
        if "\n" in str(error) or not stored.names(copy, file, str(error)):
            raise Violation(f"{file} is damaged, and it is said: {error}") from error
        return "named in one line"
    if after != before:
        raise Violation(f"{file} is damaged, and something else is read")
    return "unharmed"


DAMAGES: tuple[Damage, ...] = (FlippedBit(), Truncated(), Missing())
