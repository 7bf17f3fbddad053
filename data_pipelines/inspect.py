"""What is in these files, and can a model be trained on them? Read in blocks, nothing is written."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import UNKNOWN, Columns, check_columns, check_controls, label_text, numbers_of
from data_pipelines.errors import InputError
from data_pipelines.ingestion.genes import GeneRules, duplicates
from data_pipelines.ingestion.inputs import find_inputs
from data_pipelines.ingestion.panel import UNION, Alignment, build_panel
from data_pipelines.ingestion.slots import with_slots
from data_pipelines.ingestion.source import Source, open_sources
from data_pipelines.inspection_text import inspection_lines
from data_pipelines.knockdown_report import KnockdownReport, report_knockdown
from data_pipelines.progress import Progress, silent
from data_pipelines.proposal import propose_columns
from data_pipelines.scan import CountScan, scan_counts

if TYPE_CHECKING:
    import pandas

    from lingshu_jax.vocabulary import GenePanel

SCORED_FROM = 30
"""Conditions with fewer cells can be trained on, but not be scored."""
DETECTED_FROM = 0.01
"""A target has co-expression features when this share of the control cells express it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileFacts:
    """One file."""

    name: str
    n_cells: int
    n_genes: int
    gene_ids: str
    """'symbols', 'Ensembl ids' or 'other ids'."""
    duplicate_genes: tuple[str, ...]
    obs_columns: tuple[str, ...]
    fault: str | None
    """Why the matrix holds no raw counts, or None."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect_files` found out. `lines()` says it in words."""

    files: tuple[FileFacts, ...]
    columns: Columns
    """Proposed, or as given."""
    layer: str | None
    """The matrix with the raw counts: None for X."""
    problems: tuple[str, ...]
    """What must be fixed before ingest, one line each."""
    notes: tuple[str, ...]
    """What is good to know, one line each."""
    library: np.ndarray
    """float64 (cells,): counts per cell."""
    expressed: np.ndarray
    """int64 (cells,): expressed genes per cell."""
    largest: float
    n_genes: int
    """Genes of the panel: the union over the files."""
    conditions: tuple[tuple[tuple[str, ...], int], ...]
    """(labels in the order of the condition fields, cells), most cells first."""
    knockdown: KnockdownReport | None
    """Of a screen whose perturbations are genes of the panel."""

    @property
    def ready(self) -> bool:
        return not self.problems

    @property
    def n_cells(self) -> int:
        return sum(file.n_cells for file in self.files)

    def lines(self) -> list[str]:
        """The report as text, ending with 'ready to ingest' or with what to fix."""
        return inspection_lines(self)

    def ingest_arguments(self) -> list[str]:
        """Command-line arguments that ingest these files as proposed, without the files themselves."""
        given = {
            "--columns.context": ",".join(self.columns.context),
            "--columns.perturbation": self.columns.perturbation,
            "--columns.control": ",".join(self.columns.control),
            "--columns.batch": self.columns.batch,
            "--columns.numbers": ",".join(self.columns.numbers),
            "--layer": self.layer,
        }
        return [part for name, value in given.items() if value for part in (name, value)]


def inspect_files(
    paths: str | pathlib.Path | Iterable[str | pathlib.Path],
    *,
    columns: Columns | None = None,
    layer: str | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Inspect files that are to be ingested together.

    Args:
        paths: what `ingest` takes: files, folders, patterns, manifests.
        columns: roles of the obs columns; None proposes them.
        layer: the matrix to look at; None takes X, or another slot where only that one holds raw counts.
        progress: called as progress(stage, cells done, cells).

    Raises:
        InputError: a file cannot be read at all, or a named column is missing.
    """
    import pandas

    inputs, notes = with_slots(find_inputs(paths, layer=layer))
    with open_sources(inputs) as sources:
        shared = [name for name in sources[0].obs.columns if all(name in source.obs.columns for source in sources)]
        obs: Any = (
            sources[0].obs[shared]
            if len(sources) == 1
            else pandas.concat([s.obs[shared].astype(object) for s in sources])
        )
        columns = _checked(columns, sources, obs) if columns else propose_columns(obs, sources[0].genes.index)
        labels = {name: label_text(obs[name]) for name in columns.fields}
        is_control = columns.perturbation is not None and columns.is_control(labels[columns.perturbation])
        control = np.broadcast_to(is_control, len(obs))
        scans = _scan(sources, control, progress)
        panel, alignments, problems = _panel(sources)
        problems += [
            f"{source.where} holds no raw counts: {scan.fault}."
            for source, scan in zip(sources, scans, strict=True)
            if scan.fault
        ]
        if not problems and not max(scan.largest for scan in scans):
            problems.append("every count is zero: there is nothing to learn from.")
        knockdown = None
        if panel is not None and not problems and columns.perturbation is not None:
            table = pandas.DataFrame(labels)
            knockdown = report_knockdown(table, columns, panel, inputs, sources, alignments, progress)
        conditions = _conditions(labels, len(obs))
        notes += _notes(columns, labels, conditions, sources, scans, control)
        return Inspection(
            files=tuple(_facts(source, scan) for source, scan in zip(sources, scans, strict=True)),
            columns=columns,
            layer=layers.pop() if len(layers := {source.layer for source in sources}) == 1 else None,
            problems=tuple(problems),
            notes=tuple(notes),
            library=np.concatenate([scan.library for scan in scans]),
            expressed=np.concatenate([scan.expressed for scan in scans]),
            largest=max(scan.largest for scan in scans),
            n_genes=len(panel or {gene for source in sources for gene in source.genes.index}),
            conditions=conditions,
            knockdown=knockdown,
        )


def _checked(columns: Columns, sources: Sequence[Source], obs: "pandas.DataFrame") -> Columns:
    for source in sources:
        check_columns(columns, source.obs, source.name)
        for name in columns.numbers:
            numbers_of(source.obs[name], name, source.name)
    if columns.perturbation is not None:
        check_controls(columns, set(label_text(obs[columns.perturbation])), ", ".join(s.name for s in sources))
    return columns


def _scan(sources: Sequence[Source], control: np.ndarray, progress: Progress) -> list[CountScan]:
    parts = np.split(control, np.cumsum([source.n_cells for source in sources])[:-1])
    return [scan_counts(source, part, progress=progress) for source, part in zip(sources, parts, strict=True)]


def _panel(sources: Sequence[Source]) -> "tuple[GenePanel | None, list[Alignment], list[str]]":
    """The union, where the sources' genes lie in it, and what stands in its way."""
    try:
        panel, alignments = build_panel([source.genes for source in sources], UNION, GeneRules())
        return panel, alignments, []
    except InputError as error:
        return None, [], [str(error)]


def _facts(source: Source, scan: CountScan) -> FileFacts:
    return FileFacts(
        name=source.name,
        n_cells=source.n_cells,
        n_genes=len(source.genes.index),
        gene_ids=_kind_of_ids(source.genes.index),
        duplicate_genes=tuple(duplicates(source.genes.index)),
        obs_columns=tuple(map(str, source.obs.columns)),
        fault=scan.fault,
    )


def _kind_of_ids(genes: Sequence[str]) -> str:
    ensembl = sum(gene.startswith("ENS") and gene[-3:].replace(".", "").isdigit() for gene in genes)
    if ensembl > len(genes) / 2:
        return "Ensembl ids"
    return "numbers, not gene ids" if all(gene.isdigit() for gene in genes) else "gene symbols or other names"


def _conditions(labels: dict[str, np.ndarray], n_cells: int) -> tuple[tuple[tuple[str, ...], int], ...]:
    if not labels:
        return (((), n_cells),)
    return tuple(Counter(zip(*(map(str, values) for values in labels.values()), strict=True)).most_common())


def _notes(
    columns: Columns,
    labels: dict[str, np.ndarray],
    conditions: Sequence[tuple[tuple[str, ...], int]],
    sources: Sequence[Source],
    scans: Sequence[CountScan],
    control: np.ndarray,
) -> list[str]:
    notes = []
    for name, values in labels.items():
        missing = int((values == UNKNOWN).sum())
        if missing:
            notes.append(f"{missing:,} cells have no {name}: they get the label '{UNKNOWN}'.")
    if columns.perturbation is not None:
        few = sum(cells < SCORED_FROM for _, cells in conditions)
        if few:
            notes.append(f"{few} of {len(conditions)} conditions have < {SCORED_FROM} cells: trained on, not scored.")
        notes += _uncontrolled(columns, labels, control)
        notes += _features(columns, labels[columns.perturbation], sources, scans, control)
    empty = sum(int((scan.library == 0).sum()) for scan in scans if not scan.fault)
    if empty:
        notes.append(f"cells without any count: {empty:,}. Take them out of the h5ad file if they are no cells.")
    return notes


def _uncontrolled(columns: Columns, labels: dict[str, np.ndarray], control: np.ndarray) -> list[str]:
    """Contexts without control cells: no effect can be computed there."""
    if not columns.context:
        return []
    context = [" ".join(map(str, key)) for key in zip(*(labels[name] for name in columns.context), strict=True)]
    without = sorted(set(context) - {context[i] for i in np.flatnonzero(control)})
    return [f"no control cells in: {_few(without)}. Effects cannot be scored there."] if without else []


def _features(
    columns: Columns,
    perturbations: np.ndarray,
    sources: Sequence[Source],
    scans: Sequence[CountScan],
    control: np.ndarray,
) -> list[str]:
    """Targets without co-expression features, where the perturbations are genes."""
    detected: Counter[str] = Counter()
    for source, scan in zip(sources, scans, strict=True):
        detected.update(dict(zip(source.genes.index, scan.detected_in_controls.tolist(), strict=True)))
    targets = sorted(set(map(str, perturbations)) - set(columns.control) - {UNKNOWN})
    if not any(target in detected for target in targets):
        return []
    without = [target for target in targets if detected[target] < DETECTED_FROM * max(1, control.sum())]
    if not without:
        return []
    return [
        f"{len(without)} of {len(targets)} targets are not in the panel or in < 1 % of control cells, so they have no "
        f"co-expression features: {_few(without)}."
    ]


def _few(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
