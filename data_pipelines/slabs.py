"""Slabs: 32 consecutive cells of a split in stored order, the elements that the loader shuffles."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import label_text, numbers_of
from data_pipelines.errors import InputError
from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary, LibrarySizeField, NumberField

if TYPE_CHECKING:
    import pandas

    from data_pipelines.store import CellStore

SLAB = 32
"""Cells of one element."""


def condition_rows(
    store: "CellStore | pandas.DataFrame", rows: np.ndarray, vocabulary: ConditionVocabulary
) -> dict[str, np.ndarray]:
    """What the condition fields say of some cells; the library size is left out (see `log_library_sizes`).

    Args:
        store: a store, or an obs table with the condition fields as columns.
        rows: integers (n,), positions in it.
        vocabulary: the model's conditions.

    Returns:
        Field name -> vocabulary rows, int32 (n,), or numbers, float32 (n,), NaN where left out.

    Raises:
        InputError: a field is no column, or one of numbers has none.
        UnknownLabel: a cell's label is not in the vocabulary.
    """
    obs: Any = getattr(store, "obs", store)
    return {field.name: _values(field, obs, rows) for field in vocabulary.fields}


@functools.singledispatch
def _values(field: Any, obs: Any, rows: np.ndarray) -> np.ndarray:
    raise TypeError(f"no values for {type(field).__name__}.")


@_values.register
def _(field: ConditionField, obs: Any, rows: np.ndarray) -> np.ndarray:
    labels, place = np.unique(label_text(_column(field.name, obs).iloc[rows]).astype(str), return_inverse=True)
    return np.array([field.row(str(label)) for label in labels], np.int32)[place]


@_values.register
def _(field: NumberField, obs: Any, rows: np.ndarray) -> np.ndarray:
    return numbers_of(_column(field.name, obs).iloc[rows], field.name, "the store").astype(np.float32)


@_values.register
def _(field: LibrarySizeField, obs: Any, rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), np.nan, np.float32)


def _column(name: str, obs: Any) -> Any:
    if name not in obs.columns:
        raise InputError(f"condition field {name!r} is no obs column (present: {', '.join(obs.columns)}).")
    return obs[name]


def log_library_sizes(counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Log of each cell's total, float32 (n,); of CSR values (z,) and row pointers (n + 1,). An empty cell counts 1."""
    totals = np.diff(np.concatenate([[0], np.cumsum(counts, dtype=np.float64)])[ends])
    return np.log(np.maximum(totals, 1.0)).astype(np.float32)


class Slabs:
    """Random access to the slabs of some rows of a store; the last slab wraps around to the first cells."""

    def __init__(self, store: "CellStore", rows: np.ndarray, vocabulary: ConditionVocabulary) -> None:
        self.store = store
        self.rows = np.sort(np.asarray(rows, np.int64))
        self.source = store.source[self.rows]
        self.conditions = condition_rows(store, self.rows, vocabulary)
        self.library_size = vocabulary.library_size
        self.room = int(
            store.expressed[self.rows[np.arange(len(self) * SLAB) % len(self.rows)]].reshape(-1, SLAB).sum(1).max()
        )
        """Expressed (cell, gene) pairs that every slab has room for; at least those of the fullest."""

    def __len__(self) -> int:
        return (len(self.rows) + SLAB - 1) // SLAB

    def __repr__(self) -> str:
        return f"Slabs({self.store!r}, {len(self.rows)} cells)"

    def __getitem__(self, index: Any) -> dict[str, Any]:
        place = np.arange(int(index) * SLAB, (int(index) + 1) * SLAB) % len(self.rows)
        rows = self.rows[place]
        if place[-1] - place[0] == SLAB - 1:
            genes, counts, ends = self.store.entries(rows)
        else:  # wraps around
            cells: Any = self.store.counts(rows)
            genes, counts, ends = cells.indices, cells.data, cells.indptr
        conditions = {name: values[place] for name, values in self.conditions.items()}
        if self.library_size is not None:
            conditions[self.library_size.name] = log_library_sizes(counts, ends)
        return {
            "genes": _padded(genes, self.room, self.store.gene_dtype),
            "counts": _padded(counts, self.room, self.store.count_dtype),
            "ends": ends.astype(np.int32),
            "source": self.source[place],
            "cell": rows,
            "conditions": conditions,
        }


def part_of(slab: dict[str, Any], part: int, parts: int) -> dict[str, Any]:
    """One of equal parts of a slab's cells, with room for as many entries as the whole."""
    ends = slab["ends"]
    cells = (len(ends) - 1) // parts
    here = slice(part * cells, (part + 1) * cells)
    entries = slice(int(ends[here.start]), int(ends[here.stop]))
    others = {name: value for name, value in slab.items() if name not in ("genes", "counts", "ends")}
    return {
        **_each(others, here),
        **{name: _padded(slab[name][entries], len(slab[name]), slab[name].dtype) for name in ("genes", "counts")},
        "ends": ends[here.start : here.stop + 1] - ends[here.start],
    }


def _each(values: Any, here: slice) -> Any:
    if isinstance(values, dict):
        return {name: _each(value, here) for name, value in values.items()}
    return values[here]


def _padded(values: np.ndarray, size: int, dtype: np.dtype) -> np.ndarray:
    padded = np.zeros(size, dtype)
    padded[: len(values)] = values
    return padded


def _combinations(obs: "pandas.DataFrame", columns: Sequence[str]) -> np.ndarray:
    """The number of each row's combination of labels (n,), in the order of the labels; missing ones are a label too."""
    import pandas

    codes = [pandas.factorize(obs[name], sort=True, use_na_sentinel=False)[0] for name in columns]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()


def slabs_of(
    store: "CellStore", rows: np.ndarray, vocabulary: ConditionVocabulary, balance: Sequence[str]
) -> list[Slabs]:
    """The slabs of every combination of labels of some columns, all rows together without columns.

    Raises:
        InputError: a column is missing.
    """
    missing = [name for name in balance if name not in store.obs.columns]
    if missing:
        there = ", ".join(store.obs.columns)
        raise InputError(f"{store.path} has no obs column {missing[0]!r} to balance over (present: {there}).")
    groups = [rows]
    if balance:
        group = _combinations(store.obs.iloc[rows], balance)
        groups = [rows[group == number] for number in range(group.max() + 1)]
    found = [Slabs(store, group, vocabulary) for group in groups]
    for slabs in found:  # one shape for all
        slabs.room = max(slabs.room for slabs in found)
    return found
