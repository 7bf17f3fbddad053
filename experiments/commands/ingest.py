"""`lingshu ingest INPUT ... --out STORE`: files of raw counts into a shuffled, sharded cell store with a split."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import tyro

from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, ColumnOptions, Place
from experiments.progress import StageProgress

if TYPE_CHECKING:
    from data_pipelines import CellStore
    from data_pipelines.ingestion.engine import Engine
    from lingshu_jax.vocabulary import GenePanel


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneOptions:
    """Which genes, and how their ids are compared."""

    panel: str = "union"
    """'union' or 'intersection' of the inputs' genes, a csv with one gene per line, or a run: that model's genes."""
    column: str | None = None
    """Column of var that holds the gene ids; found where not given."""
    aliases: pathlib.Path | None = None
    """csv of two columns: other name, gene."""
    duplicates: Literal["refuse", "sum"] = "refuse"
    """What to do with columns that mean the same gene."""
    ignore_case: bool = False
    """Accept that most genes agree in all but case."""
    min_mapped: float = 0.1
    """Least share of an input's genes that must be found, 0..1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """Which cells of a perturbation screen to leave out; nothing is left out by default."""

    max_residual: float | None = None
    """Keep perturbations whose target is expressed at most so much, relative to controls (0.3)."""
    max_cell_residual: float | None = None
    """Keep cells whose target is expressed at most so much, relative to controls (0.5)."""
    min_cells: int = 0
    """Leave out perturbed conditions with fewer cells."""
    most_cells: int | None = None
    """Keep at most so many cells per condition."""
    guides: pathlib.Path | None = None
    """csv of two columns, guide and target: makes the perturbation column."""
    guide_column: str | None = None
    """Column of the guides."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingest:
    """Options of `lingshu ingest`."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """h5ad files, AnnData zarr folders, 10x .h5 files, 10x folders, quoted patterns, or YAML manifests of such."""
    out: str
    """Folder or gs://, s3:// URL of the store."""
    columns: ColumnOptions = ColumnOptions()
    """What the obs columns mean; `lingshu inspect` proposes them."""
    layer: str | None = None
    """Where the raw counts are: 'raw.X' or a layer's name; X, or what holds raw counts, where not given."""
    genes: GeneOptions = GeneOptions()
    """Which genes, and how their ids are compared."""
    screen: ScreenOptions = ScreenOptions()
    """Which cells of a screen to leave out."""
    seed: int = 0
    """Seed of the global shuffle, and of sub-sampling."""
    memory_mb: int = 1024
    """Rough bound on the memory that counts take, over all workers of this machine."""
    workers: int = 0
    """Processes; 0 takes one per CPU core."""
    dask: str | None = None
    """Address of a Dask scheduler whose workers do the work instead; they must see the same paths."""
    scratch: pathlib.Path | None = None
    """Folder for what is half done; beside the store where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, for --genes.panel RUN."""


def run(arguments: Sequence[str]) -> int:
    """Make the store, its default split, and the statistics of that split."""
    options = parse(Ingest, arguments, prog="lingshu ingest", description="Turn files of counts into a cell store.")

    from data_pipelines import ingest, load_statistics, make_default_split
    from data_pipelines.errors import InputError
    from data_pipelines.ingestion.target import usable_target
    from experiments.commands.split import describe

    if not options.inputs:
        raise InputError("no input given. Pass one or more files: lingshu ingest FILE.h5ad --out STORE")
    if options.seed < 0 or options.memory_mb < 1 or options.workers < 0:
        raise InputError("--seed and --workers must be >= 0 and --memory-mb >= 1.")
    there = usable_target(options.out).exists("zarr.json")
    with StageProgress() as progress:
        store = ingest(
            options.inputs,
            options.out,
            columns=options.columns.columns(),
            layer=options.layer,
            seed=options.seed,
            memory_mb=options.memory_mb,
            engine=_engine(options),
            scratch=options.scratch,
            progress=progress,
            **_genes(options),
            **_screen(options.screen),
        )
        split, note = make_default_split(store)
        load_statistics(store, split, progress=progress)
    if there:
        print(f"{store.path} holds exactly this store already; it is left as it is")
    print("\n".join(_report(store)))
    if note is not None:
        print(f"note: {note}")
    print(describe(split))
    print_next(["train", "perturb" if store.columns.perturbation else "cells", "--store", store.path])
    return 0


def _engine(options: Ingest) -> "Engine":
    from data_pipelines.ingestion.engine import DaskCluster, Local

    return DaskCluster(options.dask) if options.dask else Local(options.workers or len(os.sched_getaffinity(0)))


def _genes(options: Ingest) -> dict[str, Any]:
    from data_pipelines.ingestion.genes import GeneRules
    from data_pipelines.ingestion.pairs import read_pairs

    given = options.genes
    rules = GeneRules(
        column=given.column,
        aliases={} if given.aliases is None else read_pairs(given.aliases, "alias", "gene"),
        duplicates=given.duplicates,
        ignore_case=given.ignore_case,
        min_mapped=given.min_mapped,
    )
    return {"genes": rules, "panel": _panel(given.panel, options.runs)}


def _panel(panel: str, runs: Place) -> "str | GenePanel":
    from data_pipelines.ingestion.panel import INTERSECTION, UNION, read_panel

    if panel in (UNION, INTERSECTION):
        return panel
    if pathlib.Path(panel).is_file():
        return read_panel(panel)
    from data_pipelines.errors import InputError
    from experiments.load import panel_of

    try:
        return panel_of(panel, runs=runs)
    except InputError as error:
        raise InputError(f"--genes.panel {panel}: neither union, intersection nor a file; {error}") from None


def _screen(options: ScreenOptions) -> dict[str, Any]:
    from data_pipelines.errors import InputError
    from data_pipelines.ingestion.pairs import read_pairs
    from data_pipelines.ingestion.screen import Guides, Screen

    if (options.guides is None) != (options.guide_column is None):
        raise InputError("--screen.guides FILE and --screen.guide-column COLUMN belong together. Pass both.")
    guides = None
    if options.guides is not None and options.guide_column is not None:
        guides = Guides(column=options.guide_column, targets=read_pairs(options.guides, "guide", "target"))
    return {
        "screen": Screen(
            max_residual=options.max_residual,
            max_cell_residual=options.max_cell_residual,
            min_cells=options.min_cells,
            most_cells=options.most_cells,
        ),
        "guides": guides,
    }


def _report(store: "CellStore") -> list[str]:
    """What became of every source, and of the whole."""
    lines = [f"note: {note}" for note in store.manifest["notes"]]
    for source in store.manifest["sources"]:
        ids = "" if source["gene_column"] == "index" else f" by {source['gene_column']}"
        case = f" ({source['mapped_by_case']:,} by ignoring case)" if source["mapped_by_case"] else ""
        lines.append(
            f"{source['name']} ({source['slot']}): {source['cells']:,} cells, {source['mapped']:,} of "
            f"{source['genes']:,} genes mapped{ids}{case}, {source['dropped']:,} dropped; "
            f"{source['missing']:,} panel genes not measured"
        )
    left_out = {reason: cells for reason, cells in store.manifest["left_out"].items() if cells}
    lines += [f"left out: {cells:,} cells ({reason})" for reason, cells in left_out.items()]
    lines.append(f"{store.path}: {store.n_cells:,} cells x {store.n_genes:,} genes, hash {store.hash}")
    return lines
