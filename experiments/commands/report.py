"""`lingshu report RUN`: the run's evaluations as one self-contained page."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.options import DEFAULT_RUNS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Options of `lingshu report`."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, or `latest`."""
    out: pathlib.Path | None = None
    """The page; report.html in the run folder where not given."""
    runs: pathlib.Path = DEFAULT_RUNS
    """Folder of run folders."""


def run(arguments: Sequence[str]) -> int:
    """Write the page."""
    options = parse(Report, arguments, prog="lingshu report", description="Write a run's evaluations into one page.")

    from experiments.evaluation.report import write_report
    from experiments.runs import find_run

    folder = find_run(options.run, options.runs)
    evaluations = sorted(folder.evaluations.glob("*/metrics.json"), key=lambda file: -file.stat().st_mtime)
    sweeps = sorted(folder.sweeps.glob("*.json"), key=lambda file: -file.stat().st_mtime)
    if not evaluations and not sweeps:
        raise InputError(f"run {folder.id} has no evaluation yet. Evaluate it: lingshu evaluate {folder.id}")
    page = options.out or folder.path / "report.html"
    out = write_report(folder.path, [file.parent for file in evaluations], page, sweeps=sweeps)
    print(f"report: {out}")
    return 0
