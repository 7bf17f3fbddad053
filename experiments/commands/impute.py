"""`lingshu impute RUN --cells FILE`: complete partly measured cells; what was measured stays."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Literal

import tyro

from data_pipelines.errors import InputError
from experiments.commands.cell_options import CellOptions, open_cells, parse_cells
from experiments.commands.sample import default_sampler
from experiments.commands.writing import write
from experiments.progress import StageProgress
from experiments.simulation.output import check_out
from lingshu_jax.diffusion import SamplerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impute(CellOptions):
    """Options of `lingshu impute`. Genes of the run's panel that are missing or hidden are drawn."""

    out: pathlib.Path
    """The h5ad file, or a folder X.zarr or X.store."""
    hide: pathlib.Path | None = None
    """Text file with a gene a line: measured genes to draw as if they were not."""
    share: float | None = None
    """Share of each cell's measured genes to hide, chosen at random by the cell's name and the seed; 0..1."""
    expectation: bool = False
    """Expected counts instead of drawn ones: the mean over --draws draws."""
    draws: int = 16
    """Draws of an expectation."""
    unseen: Literal["error", "null"] = "error"
    """What to do with a perturbation without training cells."""
    sampler: SamplerConfig
    """How genes are drawn."""


def run(arguments: Sequence[str]) -> int:
    """Draw what is missing and write the cells."""
    default = Impute(run=tyro.MISSING, cells=tyro.MISSING, out=tyro.MISSING, sampler=default_sampler(arguments))
    options, condition = parse_cells(
        Impute, arguments, name="impute", description="Complete partly measured cells.", default=default
    )
    check_out(options.out, options.cells, options.hide)
    if options.share is not None and not 0 <= options.share <= 1:
        raise InputError(f"--share must lie in 0..1, got {options.share}.")
    if options.draws < 1:
        raise InputError(f"--draws must be >= 1, got {options.draws}.")

    loaded, cells = open_cells(options)

    from experiments.simulation.complete import impute_request
    from experiments.simulation.measured import panel_genes

    request = impute_request(
        loaded,
        cells,
        condition,
        hidden=None if options.hide is None else panel_genes(options.hide, loaded.plan.panel),
        hidden_share=options.share,
        expectation=options.draws if options.expectation else 0,
        sampler=options.sampler,
        seed=options.seed,
        unseen=options.unseen,
    )
    with StageProgress() as progress:
        write(request, options.out, progress)
    return 0
