"""How far down the targets of a screen are: expression relative to the controls of the same context, streamed."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.genes import Names
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.panel import Alignment
from data_pipelines.ingestion.source import open_source
from data_pipelines.ingestion.work import Chunk
from data_pipelines.progress import Progress
from lingshu_jax.vocabulary import GenePanel

if TYPE_CHECKING:
    import pandas

    from data_pipelines.columns import Columns
    from data_pipelines.ingestion.engine import Runner

# N cells of all sources in input order, G panel genes

NOT_JUDGED = -1
"""Target of cells whose perturbation names no gene of the panel, and of controls."""
_DETECTED_FROM = 0.01
"""A knock-down is judged where this share of the context's controls express the target."""


@dataclasses.dataclass(frozen=True)
class Knockdown:
    """How far down each perturbation's target is."""

    residual: Mapping[tuple[str, str], float]
    """(context, perturbation) -> the target's mean expression relative to the context's controls."""
    of_cell: np.ndarray
    """float64 (N,): the same for every cell; nan where it cannot be judged."""


def measure_knockdown(
    labels: "pandas.DataFrame",
    columns: "Columns",
    panel: GenePanel,
    inputs: Sequence[Input],
    alignments: Sequence[Alignment],
    chunks: Sequence[Chunk],
    *,
    budget: int,
    runner: "Runner",
    progress: Progress,
    scratch: pathlib.Path | None = None,
) -> Knockdown:
    """One pass over the counts.

    Args:
        labels: obs with labels as text, N rows in input order.
        columns: their roles; there must be a perturbation.
        panel: the genes.
        inputs: the sources.
        alignments: their genes in the panel.
        chunks: ranges of rows, together all rows.
        budget: bytes that a block may take.
        runner: reads the chunks.
        progress: called as progress(stage, cells done, cells).
        scratch: folder for what must be sorted on disk; None takes the system's.
    """
    target, control, contexts = plan_targets(labels, columns, panel)
    tasks = []
    for chunk in chunks:
        rows = slice(chunk.offset + chunk.first, chunk.offset + chunk.last)
        tasks.append(
            TargetTask(
                input=inputs[chunk.source],
                alignment=alignments[chunk.source],
                first=chunk.first,
                last=chunk.last,
                budget=budget,
                target=target[rows],
                control=control[rows],
                contexts=len(contexts),
                place=chunk.offset + chunk.first,
                scratch=scratch,
            )
        )

    def parts() -> Iterator[Targets]:
        done = 0
        for part in runner.run(measure_targets, tasks):
            done += len(part.share)
            progress("measuring targets", done, len(labels))
            yield part

    return knockdown(labels, columns, target, add_up(parts()))


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
    scratch: pathlib.Path | None
    """Folder for what must be sorted on disk; None takes the system's."""


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
        for first, block in source.matrix.blocks(task.budget, task.first, task.last, scratch=task.scratch):
            counts = raw_counts(block, first=first, where=source.where)
            counts = task.alignment.align(counts, where=source.where)
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
    context, names = contexts_of(labels, columns)
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
    context, names = contexts_of(labels, columns)
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


def contexts_of(labels: "pandas.DataFrame", columns: "Columns") -> tuple[np.ndarray, list[str]]:
    """The context of every cell as a number, and its name."""
    if not columns.context:
        return np.zeros(len(labels), np.int64), ["all cells"]
    text = labels[list(columns.context)].astype(str).agg(" x ".join, axis=1).to_numpy(dtype=str)
    names, code = np.unique(text, return_inverse=True)
    return code, [str(name) for name in names]
