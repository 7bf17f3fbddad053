"""`lingshu score RUN --cells FILE`: the likelihood bound of cells, per gene, and labels by Bayes."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

from data_pipelines.errors import InputError
from experiments.commands.cell_options import CellOptions, check_table, open_cells, parse_cells, write_table
from experiments.progress import StageProgress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score(CellOptions):
    """Options of `lingshu score`."""

    out: pathlib.Path
    """csv with a row per cell: nats (an upper bound on -log p), its standard error, nats per gene."""
    by: str | None = None
    """A condition field: also p(label | cell) over its labels, from bounds with the same masks for every label."""
    label_prior: Literal["uniform", "training"] = "uniform"
    """Weigh the labels of --by equally, or by their training cells."""
    genes: pathlib.Path | None = None
    """csv with a row per gene: what it adds to the bound, mean over the cells."""
    draws: int = 16
    """Noised copies of each cell, >= 2."""
    cells_per_device: int = 32
    """Rows of one forward pass on each device."""
    store: str | None = None
    """The run's store, where it has moved; read for --label-prior training."""


def run(arguments: Sequence[str]) -> int:
    """Score the cells and write the tables."""
    options, condition = parse_cells(
        Score, arguments, name="score", description="Bound the likelihood of cells under a run."
    )
    for option, out in (("--out", options.out), ("--genes", options.genes)):
        if out is not None:
            check_table(option, out, options.cells)
    if options.out == options.genes:
        raise InputError("--out and --genes are two tables: give them two names.")
    if options.label_prior != "uniform" and options.by is None:
        raise InputError("--label-prior weighs the labels of --by FIELD. Name the field.")

    from experiments.simulation.measured import labels_of_cells
    from experiments.simulation.scoring import (
        GIVEN,
        Scoring,
        label_posteriors,
        labels_to_tell,
        library_size_given,
        score_cells,
        surprising_genes,
    )

    scoring = Scoring(draws=options.draws, seed=options.seed, cells_per_device=options.cells_per_device)
    loaded, cells = open_cells(options)
    labels = labels_of_cells(cells, loaded, condition) if options.by is None or options.genes else None
    to_tell = None if options.by is None else labels_to_tell(loaded, cells, options.by, condition)
    with StageProgress() as progress:
        if options.by is None or to_tell is None:
            assert labels is not None
            table = score_cells(loaded, cells, labels, scoring, progress)
            given = library_size_given(loaded, labels)
            nats, per_gene = (table[f"{name}{GIVEN if given else ''}"].mean() for name in ("nats", "nats_per_gene"))
            said = f"mean {nats:,.1f} nats a cell, {per_gene:.4f} a gene{', given library size' if given else ''}"
        else:
            table = label_posteriors(
                loaded,
                cells,
                to_tell,
                options.by,
                scoring,
                training_frequency=options.label_prior == "training",
                store=options.store,
                progress=progress,
            )
            given = ", given library size" if library_size_given(loaded, to_tell) else ""
            said = f"p({options.by} | cell) with a {options.label_prior} prior over {table.shape[1] - 1} labels{given}"
        genes = (
            None
            if labels is None or options.genes is None
            else surprising_genes(loaded, cells, labels, scoring, progress)
        )
    write_table(table, options.out)
    print(f"{options.out}: {len(table):,} cells, {said}")
    if options.genes is not None and genes is not None:
        write_table(genes, options.genes)
        print(f"{options.genes}: {len(genes):,} genes, the most surprising {', '.join(genes.index[:3])}")
    return 0
