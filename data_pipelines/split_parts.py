"""What every kind of split works with: the parts, and the table of conditions."""

import dataclasses
from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.columns import UNKNOWN
from data_pipelines.errors import InputError

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

TRAIN, VAL, TEST = np.int8(0), np.int8(1), np.int8(2)
PART_NAMES = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The part of every cell."""

    part: np.ndarray
    """int8 (N,): TRAIN, VAL or TEST."""
    held_out: tuple[dict[str, str], ...] = ()
    """Conditions that were held out as a whole: field -> label, and 'part'."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The distinct conditions of a store's cells: labels in the order of the condition fields."""

    fields: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    cells: np.ndarray
    """int64 (conditions,): cells of each."""
    of_cell: np.ndarray
    """int64 (N,): the condition of each stored cell."""
    control: np.ndarray
    """bool (conditions,): whether it is a control."""

    def context(self, condition: int | np.intp) -> tuple[str, ...]:
        return self.labels[condition][:-1]

    def perturbation(self, condition: int | np.intp) -> str:
        return self.labels[condition][-1]

    def named(self) -> np.ndarray:
        """bool (conditions,): perturbed, and no label is 'unknown'."""
        return np.array([UNKNOWN not in labels for labels in self.labels], bool) & ~self.control

    def describe(self, condition: int | np.intp, part: np.int8) -> dict[str, str]:
        return {**dict(zip(self.fields, self.labels[condition], strict=True)), "part": PART_NAMES[part]}


def perturbed_conditions(store: "CellStore") -> Conditions:
    """The store's conditions, sorted by label.

    Raises:
        InputError: the store has no perturbation column.
    """
    columns = store.columns
    if columns.perturbation is None:
        raise InputError(
            f"{store.path} was ingested without a perturbation column, so none can be held out. "
            "Split random cells, or ingest again with --columns.perturbation and --columns.control."
        )
    groups = store.obs.groupby(list(columns.fields), observed=True, sort=True)
    keys = (key if isinstance(key, tuple) else (key,) for key in groups.groups)
    labels = tuple(tuple(str(label) for label in key) for key in keys)
    of_cell = groups.ngroup().to_numpy()
    return Conditions(
        fields=columns.fields,
        labels=labels,
        cells=np.bincount(of_cell, minlength=len(labels)),
        of_cell=of_cell,
        control=columns.is_control([label[-1] for label in labels]),
    )


def split_controls(
    conditions: Conditions,
    part: np.ndarray,
    test: float,
    val: float,
    rng: np.random.Generator,
    contexts: Container[tuple[str, ...]],
) -> None:
    """Move shares of these contexts' control cells into test and val, in place: evaluation needs unseen controls."""
    for condition in np.flatnonzero(conditions.control):
        if conditions.context(condition) not in contexts:
            continue
        cells = rng.permutation(np.flatnonzero(conditions.of_cell == condition))
        n_test, n_val = round(test * len(cells)), round(val * len(cells))
        part[cells[:n_test]] = TEST
        part[cells[n_test : n_test + n_val]] = VAL
