"""Options of the commands that take cells from a file: which, on what genes, under what labels."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import tyro

from data_pipelines.errors import InputError
from data_pipelines.partial import unfinished
from experiments.command_line import parse, take_prefixed
from experiments.commands.options import DEFAULT_RUNS, Place
from experiments.simulation.output import check_input_kept

if TYPE_CHECKING:
    import pandas

    from experiments.load import LoadedRun
    from experiments.simulation.measured import MeasuredCells


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellOptions:
    """What `impute`, `counterfactual`, `score` and `embed` share."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, an alias, or `latest`."""
    cells: pathlib.Path
    """Raw counts: h5ad, zarr or 10x output. obs has the condition fields, or --condition.FIELD VALUE says them."""
    layer: str | None = None
    """The matrix with the raw counts: raw.X or a layer; X where not given."""
    gene_column: str | None = None
    """Column of var with the gene ids; the one that finds most genes of the run's panel, where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    step: int | None = None
    """Which checkpoint; the newest where not given."""
    seed: int = 0
    """Same seed, same result."""


def parse_cells[T: CellOptions](
    kind: type[T], arguments: Any, *, name: str, description: str, default: T | None = None
) -> tuple[T, dict[str, str]]:
    """A command's options, and the labels that --condition.FIELD gives to all cells."""
    condition, rest = take_prefixed(arguments, "condition")
    options = parse(kind, rest, prog=f"lingshu {name}", description=description, default=default)
    if not options.cells.exists():
        raise InputError(f"--cells {options.cells} does not exist. Pass an h5ad, zarr or 10x input of raw counts.")
    return options, condition


def open_cells(options: CellOptions) -> "tuple[LoadedRun, MeasuredCells]":
    """The run and the cells on its panel; prints how they fit.

    Raises:
        InputError: either cannot be read, or they do not fit at all.
    """
    from experiments.load import load_run
    from experiments.simulation.measured import read_measured

    run = load_run(options.run, runs=options.runs, step=options.step)
    cells = read_measured(options.cells, run.plan.panel, layer=options.layer, column=options.gene_column)
    print(cells.said())
    return run, cells


def check_table(option: str, out: pathlib.Path, cells: pathlib.Path) -> None:
    """Require that a table can be written here.

    Raises:
        InputError: it is a folder, or in none, or the file of the cells.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{option} {out} must name a file in a folder that exists.")
    check_input_kept(option, out, [cells])


def write_table(table: "pandas.DataFrame", out: pathlib.Path) -> None:
    """Write a csv in one step: whole, or not at all; a spreadsheet takes none of its text for a formula."""
    from experiments.spreadsheet import harmless_table

    with unfinished(out) as partial:
        harmless_table(table).to_csv(partial)
        partial.replace(out)
