"""`lingshu inspect FILE.h5ad ...`: can these files be trained on, and how are they ingested?"""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import ColumnOptions
from experiments.progress import StageProgress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Options of `lingshu inspect`."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """What `lingshu ingest` takes: h5ad, zarr, 10x .h5, 10x folders, quoted patterns, manifests."""
    columns: ColumnOptions = ColumnOptions()
    """What the obs columns mean; proposed where none is given."""
    layer: str | None = None
    """Where the raw counts are: 'raw.X' or a layer's name; X where not given."""


def run(arguments: Sequence[str]) -> int:
    """Print the inspection; exit status 2 when something must be fixed first."""
    options = parse(Inspect, arguments, prog="lingshu inspect", description="Can these files be trained on?")

    from data_pipelines import inspect_files
    from data_pipelines.errors import InputError

    if not options.inputs:
        raise InputError("no input given. Pass one or more files: lingshu inspect FILE.h5ad")
    columns = options.columns.columns() if options.columns.given() else None
    with StageProgress() as progress:
        inspection = inspect_files(options.inputs, columns=columns, layer=options.layer, progress=progress)
    print("\n".join(inspection.lines()))
    if not inspection.ready:
        return 2
    print_next(["ingest", *options.inputs, "--out", store_name(options.inputs[0]), *inspection.ingest_arguments()])
    return 0


def store_name(given: str) -> str:
    """A store's name after its first input; after the folder of a pattern."""
    path = pathlib.Path(given)
    while set("*?[") & set(path.name):
        path = path.parent
    return f"{path.stem.removesuffix('_feature_bc_matrix').strip('.') or 'cells'}.store"
