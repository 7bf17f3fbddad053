"""`lingshu report RUN`: the run's evaluations as one self-contained page."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.options import DEFAULT_RUNS, Place

if TYPE_CHECKING:
    from experiments.runs import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Options of `lingshu report`."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, an alias, or `latest`."""
    out: Place | None = None
    """The page; report.html in the run folder where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""


def run(arguments: Sequence[str]) -> int:
    """Write the page."""
    options = parse(Report, arguments, prog="lingshu report", description="Write a run's evaluations into one page.")

    from experiments.runs import find_run

    say(write_page(find_run(options.run, options.runs), options.out))
    return 0


def say(page: Place) -> None:
    """Where the page is."""
    from experiments.evaluation.report import numbers_of

    print(f"report: {page} (its numbers: {numbers_of(page).name})")


def write_page(folder: "RunFolder", out: Place | None) -> Place:
    """Write the page of all evaluations and sweeps of a run, the newest first, and return where it is.

    Raises:
        InputError: there are none.
    """
    from experiments.evaluation.report import write_report
    from experiments.storage import storage_of

    modified = storage_of(folder.path).modified
    evaluations = sorted(folder.evaluations.glob("*/metrics.json"), key=modified, reverse=True)
    sweeps = sorted(folder.sweeps.glob("*.json"), key=modified, reverse=True)
    if not evaluations and not sweeps:
        raise InputError(f"run {folder.id} has no evaluation yet. Evaluate it: lingshu evaluate {folder.id}")
    page = out or folder.path / "report.html"
    return write_report(folder.path, [file.parent for file in evaluations], page, sweeps=sweeps)
