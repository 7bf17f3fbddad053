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

    files: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """One or more h5ad files that belong together."""
    columns: ColumnOptions = ColumnOptions()
    """What the obs columns mean; proposed where none is given."""
    layer: str | None = None
    """Where the raw counts are: 'raw.X' or a layer's name; X where not given."""


def run(arguments: Sequence[str]) -> int:
    """Print the inspection; exit status 2 when something must be fixed first."""
    options = parse(Inspect, arguments, prog="lingshu inspect", description="Can these h5ad files be trained on?")

    from data_pipelines import inspect_files
    from data_pipelines.errors import InputError

    if not options.files:
        raise InputError("no file given. Pass one or more h5ad files: lingshu inspect FILE.h5ad")
    columns = options.columns.columns() if options.columns.given() else None
    with StageProgress() as progress:
        inspection = inspect_files(options.files, columns=columns, layer=options.layer, progress=progress)
    print("\n".join(inspection.lines()))
    if not inspection.ready:
        return 2
    out = options.files[0].with_suffix(".store").name
    print_next(["ingest", *options.files, "--out", out, *inspection.ingest_arguments()])
    return 0
