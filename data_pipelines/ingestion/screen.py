"""Hygiene of perturbation screens, off by default: knock-downs that did not work, conditions too small or too large."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.genes import Names
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.panel import Alignment
from data_pipelines.ingestion.source import open_source
from lingshu_jax.vocabulary import GenePanel

if TYPE_CHECKING:
    import pandas

    from data_pipelines.columns import Columns

# N cells of all sources in input order, G panel genes

NOT_JUDGED = -1
"""Target of cells whose perturbation names no gene of the panel, and of controls."""
_DETECTED_FROM = 0.01


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


@dataclasses.dataclass(frozen=True)
class Knockdown:
    """How far down each perturbation's target is."""

    residual: Mapping[tuple[str, str], float]
    """(context, perturbation) -> the target's mean expression relative to the context's controls."""
    of_cell: np.ndarray
    """float64 (N,): the same for every cell; nan where it cannot be judged."""


@dataclasses.dataclass(frozen=True)
class TargetTask:
    """Measure the targets of one range of rows."""

    input: Input
    alignment: Alignment
    first: int
    last: int
    budget: int
    target: np.ndarray
    """int32 (n,), panel position of each cell's target, or NOT_JUDGED."""
    control: np.ndarray
    """int32 (n,), the context of control cells; -1 for all other cells."""
    contexts: int
    place: int
    """Input row of the first row."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """What such a range adds."""

    place: int
    """Input row of the first row."""
    share: np.ndarray
    """float64 (n,), the target's share of the cell's counts; 0 where there is no target."""
    control_share: np.ndarray
    """float64 (contexts, G), sums of the shares over control cells."""
    control_detected: np.ndarray
    """int64 (contexts, G), control cells that express each gene."""


def measure_targets(task: TargetTask) -> Targets:
    """Task: the share of every cell's counts that its target has, and all genes' shares in controls."""
    share = np.zeros(task.last - task.first)
    sums = np.zeros((task.contexts, task.alignment.n_genes))
    detected = np.zeros(sums.shape, np.int64)
    with open_source(task.input) as source:
        for first, block in source.matrix.blocks(task.budget, task.first, task.last):
            counts = task.alignment.align(raw_counts(block, first=first, where=source.where))
            library = np.maximum(np.asarray(counts.sum(1), np.float64).ravel(), 1.0)
            rows = slice(first - task.first, first - task.first + n_rows(counts))
            target, control = task.target[rows], task.control[rows]
            of_entry = np.repeat(np.arange(n_rows(counts)), np.diff(counts.indptr))
            on_target = counts.indices == target[of_entry]
            share[rows] = np.bincount(of_entry[on_target], counts.data[on_target], n_rows(counts)) / library
            for context in np.unique(control[control >= 0]):
                mine = counts[control == context]
                scaled = mine.data / np.repeat(library[control == context], np.diff(mine.indptr))
                sums[context] += np.bincount(mine.indices, scaled, sums.shape[1])
                detected[context] += np.bincount(mine.indices, minlength=sums.shape[1])
    return Targets(task.place, share, sums, detected)


def add_up(parts: Iterable[Targets]) -> Targets:
    """All ranges of rows as one, from parts in any order.

    Parts are added in input order, so that the last bits do not depend on who was faster; only those that wait for an
    earlier one are held.
    """
    waiting: dict[int, Targets] = {}
    shares: list[np.ndarray] = []
    sums: Any = 0.0
    detected: Any = 0
    place = 0
    for part in parts:
        waiting[part.place] = part
        while place in waiting:
            following = waiting.pop(place)
            shares.append(following.share)
            sums, detected = sums + following.control_share, detected + following.control_detected
            place += len(following.share)
    return Targets(0, np.concatenate(shares), sums, detected)


def plan_targets(
    labels: "pandas.DataFrame", columns: "Columns", panel: GenePanel
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each cell's target (N,), its context if it is a control (N,), and the names of the contexts."""
    perturbation = labels[columns.perturbation].astype(str).to_numpy()
    control = columns.is_control(perturbation)
    context, names = _contexts(labels, columns)
    genes = Names(panel.genes, {})
    distinct, place = np.unique(perturbation, return_inverse=True)
    positions = np.array([genes.find(str(label))[0] for label in distinct], np.int32)
    return (
        np.where(control, NOT_JUDGED, positions[place]).astype(np.int32),
        np.where(control, context, -1).astype(np.int32),
        names,
    )


def knockdown(labels: "pandas.DataFrame", columns: "Columns", targets: np.ndarray, measured: Targets) -> Knockdown:
    """Relate targets to controls of the same context.

    Args:
        labels: obs with labels as text, N rows.
        columns: their roles.
        targets: int32 (N,) of `plan_targets`.
        measured: of all rows.
    """
    context, names = _contexts(labels, columns)
    control = columns.is_control(labels[columns.perturbation])
    cells = np.maximum(np.bincount(context[control], minlength=len(names)), 1)[:, None]
    mean, detected, share = measured.control_share / cells, measured.control_detected / cells, measured.share
    baseline = np.where(targets >= 0, mean[context, targets], 0.0)
    judged = (targets >= 0) & (np.where(targets >= 0, detected[context, targets], 0.0) >= _DETECTED_FROM)
    of_cell = np.full(len(share), np.nan)
    of_cell[judged] = share[judged] / baseline[judged]
    perturbation = labels[columns.perturbation].astype(str).to_numpy()
    residual = {}
    for code, name in enumerate(names):
        for label in np.unique(perturbation[judged & (context == code)]):
            residual[name, str(label)] = float(of_cell[(context == code) & (perturbation == label)].mean())
    return Knockdown(residual, of_cell)


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

    context, names = _contexts(labels, columns)
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


def _contexts(labels: "pandas.DataFrame", columns: "Columns") -> tuple[np.ndarray, list[str]]:
    """The context of every cell as a number, and its name."""
    if not columns.context:
        return np.zeros(len(labels), np.int64), ["all cells"]
    text = labels[list(columns.context)].astype(str).agg(" x ".join, axis=1).to_numpy(dtype=str)
    names, code = np.unique(text, return_inverse=True)
    return code, [str(name) for name in names]
