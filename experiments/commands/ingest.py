"""`lingshu ingest FILE.h5ad ... --out STORE`: h5ad files into a shuffled, sharded cell store with a split."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import ColumnOptions
from experiments.progress import StageProgress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingest:
    """Options of `lingshu ingest`."""

    files: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """One or more h5ad files; the panel is the union of their genes."""
    out: pathlib.Path
    """Folder of the store."""
    columns: ColumnOptions = ColumnOptions()
    """What the obs columns mean; `lingshu inspect` proposes them."""
    layer: str | None = None
    """Where the raw counts are: 'raw.X' or a layer's name; X where not given."""
    seed: int = 0
    """Seed of the global shuffle."""
    memory_mb: int = 1024
    """Rough bound on the memory that counts take."""


def run(arguments: Sequence[str]) -> int:
    """Make the store, its default split, and the statistics of that split."""
    options = parse(Ingest, arguments, prog="lingshu ingest", description="Turn h5ad files into a cell store.")

    from data_pipelines import default_split_kind, ingest, load_statistics, make_split
    from data_pipelines.errors import InputError
    from experiments.commands.split import describe

    if not options.files:
        raise InputError("no file given. Pass one or more h5ad files: lingshu ingest FILE.h5ad --out STORE")
    if options.seed < 0 or options.memory_mb < 1:
        raise InputError("--seed must be >= 0 and --memory-mb >= 1.")
    with StageProgress() as progress:
        store = ingest(
            options.files,
            options.out,
            columns=options.columns.columns(),
            layer=options.layer,
            seed=options.seed,
            memory_mb=options.memory_mb,
            progress=progress,
        )
        split = make_split(store, default_split_kind(store.columns, store.obs))
        load_statistics(store, split, progress=progress)
    print(f"{store.path}: {store.n_cells:,} cells x {store.n_genes:,} genes, hash {store.hash}")
    print(describe(split))
    print_next(["train", "perturb" if store.columns.perturbation else "cells", "--store", store.path])
    return 0
