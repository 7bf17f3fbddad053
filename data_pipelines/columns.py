"""What the columns of obs mean: context, perturbation, control labels, batch; named once, at ingest."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from lingshu_jax.vocabulary import LIBRARY_SIZE, nearest

if TYPE_CHECKING:
    import pandas

UNKNOWN = "unknown"
"""Label of cells whose value is missing."""
_MISSING = {"", "nan", "na", "n/a", "<na>"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The obs columns that condition a model, and the batch column."""

    context: tuple[str, ...] = ()
    """Columns that say what the cell is: cell line, donor, cell type. One condition field each, in this order."""
    perturbation: str | None = None
    """Column that says what was done to the cell: knocked-down gene, cytokine, drug. The last condition field."""
    control: tuple[str, ...] = ()
    """Labels of the perturbation column that mean untreated: non-targeting, PBS, DMSO, ctrl."""
    batch: str | None = None
    """Column of technical batches (lane, replicate); kept, never a condition by itself."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers: dose, time. One condition field each; they group no cells, and may be left out."""

    def __post_init__(self) -> None:
        named = [*self.context, *filter(None, (self.perturbation, self.batch)), *self.numbers]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise InputError(f"column {twice[0]!r} is named in two roles. Give each of --columns.* its own column.")
        if LIBRARY_SIZE in named:
            raise InputError(
                f"column {LIBRARY_SIZE!r} cannot be named: it is computed from the counts (train --data.library-size)."
            )
        if "n_cells" in (*self.fields, *self.numbers):
            raise InputError(
                "column 'n_cells' cannot be a condition: tables of conditions count cells under that name."
            )
        if self.perturbation is not None and not self.control:
            raise InputError(
                f"--columns.perturbation {self.perturbation} needs its control label. "
                "Pass --columns.control LABEL (non-targeting, DMSO, PBS, ctrl, ...)."
            )
        if self.perturbation is None and self.control:
            raise InputError(
                f"--columns.control {','.join(self.control)} needs the column it is a label of. "
                "Pass --columns.perturbation COLUMN."
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the condition fields of labels, in order: the contexts, then the perturbation."""
        return self.context + ((self.perturbation,) if self.perturbation is not None else ())

    def is_control(self, labels: Any) -> np.ndarray:
        """Which labels of the perturbation column are controls: bool, same length."""
        return np.isin(np.asarray(labels).astype(str), list(self.control))

    def to_json(self) -> dict[str, Any]:
        value = {**dataclasses.asdict(self), "context": list(self.context), "control": list(self.control)}
        # Left out where there are none, so that a store from before there were any is the same.
        del value["numbers"]
        return {**value, "numbers": list(self.numbers)} if self.numbers else value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Columns":
        return cls(
            context=tuple(value["context"]),
            perturbation=value["perturbation"],
            control=tuple(value["control"]),
            batch=value["batch"],
            numbers=tuple(value.get("numbers", ())),
        )


def label_text(values: Any) -> np.ndarray:
    """Labels of one column as text (n,): whole numbers without a decimal point, missing values as 'unknown'."""
    import pandas

    if isinstance(values.dtype, pandas.CategoricalDtype):
        # Only the few categories are turned into text, not every cell.
        names = label_text(pandas.Series(values.cat.categories))
        codes = values.cat.codes.to_numpy()
        return np.append(names, UNKNOWN).astype(object)[codes]
    if pandas.api.types.is_float_dtype(values.dtype):
        there = values.dropna()
        if (there.abs() < 2.0**63).all() and (there % 1 == 0).all():
            values = values.astype("Int64")
    missing = values.isna().to_numpy()
    text = np.array([str(value).strip() for value in values], dtype=object)
    text[missing | np.isin(np.char.lower(text.astype(str)), sorted(_MISSING))] = UNKNOWN
    return text


def numbers_of(values: Any, name: str, where: str) -> np.ndarray:
    """The numbers of one column, float64 (n,).

    Raises:
        InputError: a value is text, missing or infinite; names the column and an example.
    """
    import pandas

    numbers = np.asarray(pandas.to_numeric(values.astype(object), errors="coerce"), np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise InputError(
            f"obs column {name!r} of {where} holds {str(values.iloc[bad[0]])[:40]!r} (cell {bad[0]}), no finite number;"
            f" {len(bad):,} of {len(numbers):,} cells have none. Give each a number (untreated cells: 0), or leave the "
            "column out of --columns.numbers."
        )
    return numbers


def check_columns(columns: Columns, obs: "pandas.DataFrame", where: str) -> None:
    """Require every named column in obs.

    Raises:
        InputError: naming the missing column, the nearest one and all there are.
    """
    for role, names in {
        "context": columns.context,
        "perturbation": (columns.perturbation,),
        "batch": (columns.batch,),
        "numbers": columns.numbers,
    }.items():
        for name in filter(None, names):
            if name not in obs.columns:
                present = ", ".join(map(str, obs.columns)) or "none"
                raise InputError(
                    f"{where} has no obs column {name!r} (nearest: {nearest(name, map(str, obs.columns))}; "
                    f"present: {present}). Name an existing one with --columns.{role}."
                )


def check_controls(columns: Columns, labels: Iterable[str], where: str) -> None:
    """Require that at least one of the control labels occurs.

    Raises:
        InputError: naming the nearest labels of the column.
    """
    if columns.perturbation is None:
        return
    known = set(labels)
    if not known & set(columns.control):
        wanted = columns.control[0]
        raise InputError(
            f"control label {wanted!r} does not occur in column {columns.perturbation!r} of {where} "
            f"(nearest: {nearest(wanted, known)}). Pass the label of the control cells with --columns.control."
        )
