"""`lingshu report RUN`: the run's evaluations as one self-contained page."""

import dataclasses
from collections.abc import Sequence

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.options import DEFAULT_RUNS, Place


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Options of `lingshu report`."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, or `latest`."""
    out: Place | None = None
    """The page; report.html in the run folder where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""


def run(arguments: Sequence[str]) -> int:
    """Write the page."""
    options = parse(Report, arguments, prog="lingshu report", description="Write a run's evaluations into one page.")

    from experiments.evaluation.report import write_report
    from experiments.runs import find_run
    from experiments.storage import storage_of

    folder = find_run(options.run, options.runs)
    evaluations = sorted(folder.evaluations.glob("*/metrics.json"), key=storage_of(folder.path).modified, reverse=True)
    if not evaluations:
        raise InputError(f"run {folder.id} has no evaluation yet. Evaluate it: lingshu evaluate {folder.id}")
    out = write_report(folder.path, [file.parent for file in evaluations], options.out or folder.path / "report.html")
    print(f"report: {out}")
    return 0
