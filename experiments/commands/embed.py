"""`lingshu embed RUN --cells FILE`: cell representations into obsm['X_lingshu']."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from data_pipelines.errors import InputError
from experiments.commands.cell_options import CellOptions, open_cells, parse_cells
from experiments.progress import StageProgress
from experiments.simulation.output import check_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embed(CellOptions):
    """Options of `lingshu embed`."""

    out: pathlib.Path
    """The h5ad file, or a folder X.zarr or X.store: the cells on the run's panel, with obsm['X_lingshu']."""
    cells_per_device: int = 32
    """Rows of one forward pass on each device."""


def run(arguments: Sequence[str]) -> int:
    """Embed the cells and write them."""
    options, condition = parse_cells(Embed, arguments, name="embed", description="Represent cells by a run's states.")
    check_out(options.out, options.cells)
    if options.cells_per_device < 1:
        raise InputError(f"--cells-per-device must be >= 1, got {options.cells_per_device}.")

    loaded, cells = open_cells(options)

    from experiments.simulation.embedding import OBSM, embedded
    from experiments.simulation.measured import labels_of_cells
    from experiments.simulation.output import write_cells

    labels = labels_of_cells(cells, loaded, condition)
    result: Any = None
    with StageProgress() as progress:
        result = embedded(loaded, cells, labels, cells_per_device=options.cells_per_device, progress=progress)
    write_cells(result, options.out)
    print(f"{options.out}: {result.n_obs:,} cells, obsm[{OBSM!r}] of width {result.obsm[OBSM].shape[1]}")
    return 0
