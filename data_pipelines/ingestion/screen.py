"""Hygiene of perturbation screens, off by default: knock-downs that did not work, conditions too small or too large."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.ingestion.knockdown import Knockdown, contexts_of

if TYPE_CHECKING:
    import pandas

    from data_pipelines.columns import Columns

# N cells of all sources in input order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screen:
    """Which cells of a screen to keep. Expression is a share of counts; each context has its own controls."""

    max_residual: float | None = None
    """Keep perturbations whose target is expressed at most so much, relative to the context's controls (0.3)."""
    max_cell_residual: float | None = None
    """Keep cells whose target is expressed at most so much, relative to the controls (0.5)."""
    min_cells: int = 0
    """Leave out perturbed conditions with fewer cells, after the two filters above."""
    most_cells: int | None = None
    """Keep at most so many cells of every condition, drawn at random."""

    def __post_init__(self) -> None:
        for name in ("max_residual", "max_cell_residual"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"--screen.{name.replace('_', '-')} must be >= 0, got {value}.")
        if self.min_cells < 0 or (self.most_cells is not None and self.most_cells < 1):
            raise InputError("--screen.min-cells must be >= 0 and --screen.most-cells >= 1.")

    def require_perturbation(self, columns: "Columns") -> None:
        """Require a perturbation column where a filter is about perturbations.

        Raises:
            InputError: there is none; names the filter.
        """
        asked = {
            "max-residual": self.max_residual is not None,
            "max-cell-residual": self.max_cell_residual is not None,
            "min-cells": self.min_cells > 0,
        }
        for name in (name for name, is_asked in asked.items() if is_asked and columns.perturbation is None):
            raise InputError(f"--screen.{name} needs --columns.perturbation.")

    @property
    def needs_expression(self) -> bool:
        return self.max_residual is not None or self.max_cell_residual is not None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guides:
    """A guide-to-target map."""

    column: str
    """obs column of the guides."""
    targets: Mapping[str, str] = dataclasses.field(hash=False)
    """guide -> target; guides that are controls map to their control label."""

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "targets": sorted(self.targets.items())}


def choose_cells(
    screen: Screen,
    labels: "pandas.DataFrame",
    columns: "Columns",
    kept: np.ndarray,
    found: Knockdown | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which cells to keep, and how many each filter left out.

    Args:
        screen: the filters.
        labels: obs with labels as text, N rows.
        columns: their roles.
        kept: bool (N,), cells that other filters kept.
        found: knock-down, where the filters need it.
        rng: of the sub-sampling.
    """
    kept = kept.copy()
    left_out = {}

    def leave_out(name: str, cells: np.ndarray) -> None:
        left_out[name] = int((kept & cells).sum())
        kept[cells] = False

    context, names = contexts_of(labels, columns)
    if found is not None:
        perturbation = labels[columns.perturbation].astype(str).to_numpy()
        if screen.max_residual is not None:
            failed = {key for key, value in found.residual.items() if value > screen.max_residual}
            pairs = zip(context, perturbation, strict=True)
            leave_out("target not down", np.array([(names[code], label) in failed for code, label in pairs], bool))
        if screen.max_cell_residual is not None:
            leave_out("cell's target not down", found.of_cell > screen.max_cell_residual)
    condition = (
        labels.groupby(list(columns.fields), observed=True, sort=True).ngroup().to_numpy()
        if columns.fields
        else np.zeros(len(labels), np.int64)
    )
    if screen.min_cells and columns.perturbation is not None:
        few = np.bincount(condition[kept], minlength=condition.max() + 1) < screen.min_cells
        leave_out("condition too small", few[condition] & ~columns.is_control(labels[columns.perturbation]))
    if screen.most_cells is not None:
        shuffled = rng.permutation(np.flatnonzero(kept))
        order = shuffled[np.argsort(condition[shuffled], kind="stable")]
        rank = np.arange(len(order)) - np.searchsorted(condition[order], condition[order])
        surplus = np.zeros(len(kept), bool)
        surplus[order[rank >= screen.most_cells]] = True
        leave_out("beyond the most per condition", surplus)
    return kept, left_out
