"""Train, validation and test cells of a store: which kind of question the split asks, and the file it lives in."""

import dataclasses
import hashlib
import json
import pathlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data_pipelines import summed_json
from data_pipelines.columns import label_text
from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from data_pipelines.held_out import HeldOutCombinations, HeldOutPerturbations
from data_pipelines.held_out_contexts import HeldOutContexts, ListedConditions
from data_pipelines.split_parts import TEST, TRAIN, VAL, Assignment
from lingshu_jax.vocabulary import content_hash, nearest

if TYPE_CHECKING:
    import pandas

    from data_pipelines.columns import Columns
    from data_pipelines.store import CellStore

__all__ = [
    "HeldOutCombinations",
    "HeldOutContexts",
    "HeldOutPerturbations",
    "ListedConditions",
    "RandomCells",
    "RandomGroups",
    "Split",
    "SplitKind",
    "confounded",
    "default_split_kind",
    "load_split",
    "make_default_split",
    "make_split",
]

# N cells


class SplitKind(Protocol):
    """A question that a split asks of a model. Implementations are frozen dataclasses."""

    @property
    def seed(self) -> int: ...

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        """Put every cell of the store into train, val or test."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCells:
    """New cells of known conditions: cells at random, in input order, so that a file has one standard split."""

    seed: int = 0
    test: float = 0.2
    """Share of all cells, 0..1: the end of the random order."""
    val: float = 0.125
    """Share of the cells before the test cells, 0..1: the end of theirs."""

    def __post_init__(self) -> None:
        if not (0 <= self.test < 1 and 0 <= self.val < 1):
            raise InputError(f"split shares must lie in 0..1, got test={self.test}, val={self.val}.")

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        order = store.stored_row[rng.permutation(store.n_cells)]
        before_test = int((1 - self.test) * store.n_cells)
        before_val = int((1 - self.val) * before_test)
        part = np.full(store.n_cells, TRAIN)
        part[order[before_val:before_test]] = VAL
        part[order[before_test:]] = TEST
        return Assignment(part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomGroups:
    """New groups of cells, each whole: batches, guides, replicates; the labels of one obs column."""

    column: str
    """The obs column."""
    seed: int = 0
    test: float = 0.2
    """Share of the groups held out for test, 0..1; at least one."""
    val: float = 0.125
    """Share of the other groups held out for validation, 0..1; at least one where three groups or more are left."""

    def __post_init__(self) -> None:
        if not (0 < self.test < 1 and 0 <= self.val < 1):
            raise InputError(f"split shares must lie in 0..1, got test={self.test}, val={self.val}.")

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        if self.column not in store.obs.columns:
            there = ", ".join(store.obs.columns)
            raise InputError(f"{store.path} has no obs column {self.column!r} to group by (present: {there}).")
        labels, group = np.unique(label_text(store.obs[self.column]).astype(str), return_inverse=True)
        n_test = max(1, round(self.test * len(labels)))
        left = len(labels) - n_test
        if left < 1:
            raise InputError(f"{store.path}: column {self.column!r} has {len(labels)} groups; two are needed to split.")
        n_val = max(int(left >= 3), round(self.val * left)) if self.val else 0
        of_group = np.full(len(labels), TRAIN)
        order = rng.permutation(len(labels))
        of_group[order[:n_test]] = TEST
        of_group[order[n_test : n_test + n_val]] = VAL
        return Assignment(of_group[group])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Which stored cells a model may learn from (train), be chosen by (val), and be judged on (test)."""

    name: str
    kind: str
    """Name of the split kind."""
    settings: dict[str, Any] = dataclasses.field(hash=False)
    """The split kind's fields."""
    store_hash: str
    train: np.ndarray
    """int64, stored row numbers, sorted; so are `val` and `test`."""
    val: np.ndarray
    test: np.ndarray
    held_out: tuple[dict[str, str], ...] = ()
    """Conditions without a training cell: field -> label, plus 'part': 'val' or 'test'."""

    @property
    def hash(self) -> str:
        """16 hex digits that change with the store and with the part of any cell; the name does not matter."""
        rows = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.val, self.test):
            rows.update(part.astype("<i8").tobytes() + b"|")
        return content_hash([self.store_hash, rows.hexdigest()])

    @property
    def n_cells(self) -> int:
        return len(self.train) + len(self.val) + len(self.test)

    def rows(self, part: str) -> np.ndarray:
        """Rows of 'train', 'val' or 'test'.

        Raises:
            InputError: no such part.
        """
        if part not in ("train", "val", "test"):
            raise InputError(f"a split has no part {part!r}; it has train, val and test.")
        return getattr(self, part)


def default_split_kind(columns: "Columns", obs: "pandas.DataFrame") -> SplitKind:
    """Held-out combinations where a perturbation meets two or more contexts, else random cells."""
    if columns.perturbation is not None and columns.context:
        perturbed: Any = obs[~columns.is_control(obs[columns.perturbation])]
        if len(perturbed.drop_duplicates(list(columns.context))) >= 2:
            return HeldOutCombinations()
    return RandomCells()


def confounded(store: "CellStore") -> list[str]:
    """Perturbations that share no batch with a control cell of their context: effect and batch cannot be told apart."""
    columns = store.columns
    if columns.perturbation is None or columns.batch is None:
        return []
    where = [*columns.context, columns.batch]
    table = store.obs[[*where, columns.perturbation]].drop_duplicates()
    control = columns.is_control(table[columns.perturbation])
    with_controls = set(table.loc[control, where].itertuples(index=False, name=None))
    shared: dict[str, bool] = {}
    for *place, label in table.loc[~control, [*where, columns.perturbation]].itertuples(index=False, name=None):
        shared[str(label)] = shared.get(str(label), False) or tuple(place) in with_controls
    return sorted(label for label, found in shared.items() if not found)


def make_split(store: "CellStore", kind: SplitKind, *, name: str = "default") -> Split:
    """Split a store and write the split beside it, as STORE/splits/NAME.json.

    Raises:
        InputError: the store's conditions do not allow this kind, or another split of this name exists.
    """
    split = _assigned(store, kind, name)
    key = _key(name)
    if store.path.exists(key) and load_split(store, name).hash != split.hash:
        raise InputError(f"{store.path}/{key} holds another split. Pass another --name, or remove the file.")
    store.path.write(key, _to_json(split))
    return split


def make_default_split(store: "CellStore") -> tuple[Split, str | None]:
    """The split that every new store gets, written as 'default', and a note where it is not of the usual kind.

    Raises:
        InputError: another split of this name exists.
    """
    kind, note = default_split_kind(store.columns, store.obs), None
    try:
        _assigned(store, kind, "default")
    except InputError as error:
        kind, note = RandomCells(), f"the default split is of random cells: {error}"
    return make_split(store, kind), note


def _assigned(store: "CellStore", kind: SplitKind, name: str) -> Split:
    """The split that this kind makes of the store; not written."""
    assignment = kind.assign(store, np.random.default_rng(kind.seed))
    part = assignment.part
    split = Split(
        name=name,
        kind=type(kind).__name__,
        settings=json.loads(json.dumps(dataclasses.asdict(kind))),  # type: ignore[call-overload]
        store_hash=store.hash,
        train=np.flatnonzero(part == TRAIN),
        val=np.flatnonzero(part == VAL),
        test=np.flatnonzero(part == TEST),
        held_out=assignment.held_out,
    )
    if not len(split.train):
        raise InputError(f"split {name!r} leaves no cell for training. Hold out less.")
    return split


def load_split(store: "CellStore", name: str = "default") -> Split:
    """Read a split of this store.

    Raises:
        InputError: there is none of this name, it belongs to another store, or its file was changed.
    """
    path, stored = store.path / _key(name), store.path.read(_key(name))
    if stored is None:
        keys = store.path.list_keys("splits/")
        there = [pathlib.PurePosixPath(key).stem for key in keys if key.endswith(".json")]
        hint = f"nearest: {nearest(name, there)}" if there else "it has none"
        raise InputError(f"{store.path} has no split {name!r} ({hint}). Make it with: lingshu split {store.path}")
    try:
        value = summed_json.load(
            stored, lambda found: check_format(f"split {path}", found, FORMAT, "Remove it and make the split again.")
        )
        split = _from_json(name, value)
    except InputError:
        raise
    except (AttributeError, MemoryError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{path} is no split file ({error}). Remove it and make the split again.") from error
    if split.store_hash != store.hash:
        raise InputError(f"{path} belongs to store {split.store_hash}, not to this one ({store.hash}). Split again.")
    if split.hash != value["hash"]:
        raise InputError(f"{path} was changed by hand: its hash does not fit its rows. Make the split again.")
    return split


FORMAT = 1
"""Of split files."""
_LONGEST_NAME = 200
"""Bytes: file systems take 255, and writers add to it."""


def _key(name: str) -> str:
    if not name.isprintable() or not name or name.startswith(".") or "/" in name or len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"{name!r} is no name for a split. Use letters, digits and dashes.")
    return f"splits/{name}.json"


def _to_json(split: Split) -> bytes:
    # Training cells are all others: they are the most, and need not be listed.
    value = {
        "format": FORMAT,
        "kind": split.kind,
        "settings": split.settings,
        "store_hash": split.store_hash,
        "hash": split.hash,
        "cells": split.n_cells,
        "held_out": list(split.held_out),
        "val": split.val.tolist(),
        "test": split.test.tolist(),
    }
    return summed_json.dump(value)


def _from_json(name: str, value: dict[str, Any]) -> Split:
    part = np.full(value["cells"], TRAIN)
    part[value["val"]] = VAL
    part[value["test"]] = TEST
    return Split(
        name=name,
        kind=value["kind"],
        settings=value["settings"],
        store_hash=value["store_hash"],
        train=np.flatnonzero(part == TRAIN),
        val=np.flatnonzero(part == VAL),
        test=np.flatnonzero(part == TEST),
        held_out=tuple(value["held_out"]),
    )
