"""`lingshu counterfactual RUN --cells FILE --perturbation LABEL`: the same cells under another perturbation."""

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
class Counterfactual(CellOptions):
    """Options of `lingshu counterfactual`. Say what of a cell stays: --keep, --keep-share, or both."""

    perturbation: str
    """The new label; A+B for both."""
    out: pathlib.Path
    """The h5ad file, or a folder X.zarr or X.store. obs has the original label as original_FIELD."""
    keep: pathlib.Path | None = None
    """Text file with a gene a line: these keep their counts."""
    keep_share: float | None = None
    """Share of each cell's measured genes (those of --keep, where given) that keep their counts; 0..1. Which ones is
    chosen at random by the cell's name and the seed, the same for every label."""
    unseen: Literal["error", "null"] = "error"
    """What to do with a perturbation without training cells."""
    sampler: SamplerConfig
    """How the other genes are drawn."""


def run(arguments: Sequence[str]) -> int:
    """Draw what is not kept and write the cells."""
    default = Counterfactual(
        run=tyro.MISSING,
        cells=tyro.MISSING,
        out=tyro.MISSING,
        perturbation=tyro.MISSING,
        sampler=default_sampler(arguments),
    )
    options, condition = parse_cells(
        Counterfactual,
        arguments,
        name="counterfactual",
        description="Draw the same cells under another perturbation.",
        default=default,
    )
    check_out(options.out, options.cells, options.keep)
    if options.keep_share is not None and not 0 <= options.keep_share <= 1:
        raise InputError(f"--keep-share must lie in 0..1, got {options.keep_share}.")
    if options.keep is None and options.keep_share is None:
        raise InputError("say what of a cell stays: --keep genes.txt, or --keep-share 0.3.")

    loaded, cells = open_cells(options)

    from experiments.simulation.complete import counterfactual_request
    from experiments.simulation.measured import panel_genes

    request = counterfactual_request(
        loaded,
        cells,
        options.perturbation,
        condition,
        kept=None if options.keep is None else panel_genes(options.keep, loaded.plan.panel),
        kept_share=options.keep_share,
        sampler=options.sampler,
        seed=options.seed,
        unseen=options.unseen,
    )
    with StageProgress() as progress:
        write(request, options.out, progress)
    return 0
