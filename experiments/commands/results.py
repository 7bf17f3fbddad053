"""`lingshu results --data FOLDER`: the page of results on real cells; what is done already is skipped."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.command_line import parse, take_prefixed
from experiments.commands.options import DEFAULT_RUNS, Place
from experiments.early_stop import START_AGAIN

if TYPE_CHECKING:
    from experiments.real_cells.plan import Plan
    from experiments.real_cells.task import Task

SECTIONS = ("model", "optimizer", "training", "sampler")
BAD_INPUT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """Options of `lingshu results`. Settings of trainings (`--training.steps 100`) hold for all tasks: short tries."""

    data: pathlib.Path | None = None
    """Folder of the data sets' h5ad files."""
    only: tuple[str, ...] = ()
    """Names of tasks; all of them where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one; cell stores lie in its folder `stores`."""
    out: Place = pathlib.Path("docs/results.md")
    """The page: tables between its markers are written anew from the runs, all else stays."""
    tables: bool = False
    """Run nothing: only write the tables from the runs that are there."""
    draws: int = 16
    """Noised copies of each held-out cell for the bound."""
    bound_cells: int = 1000
    """At most this many held-out cells of a task are scored by the bound."""


def run(arguments: Sequence[str]) -> int:
    """Do what is missing, and write the tables after every run."""
    settings: list[str] = []
    rest = list(arguments)
    for section in SECTIONS:
        taken, rest = take_prefixed(rest, section)
        settings += [word for name, value in taken.items() for word in (f"--{section}.{name}", value)]
    options: Results = parse(Results, rest, prog="lingshu results", description="Results on real cells.")

    from experiments.real_cells.page import read_page
    from experiments.real_cells.plan import Plan
    from experiments.real_cells.tasks import chosen_tasks

    if options.draws < 2 or options.bound_cells < 1:
        raise InputError("--draws must be >= 2 and --bound-cells >= 1.")
    tasks = chosen_tasks(options.only)
    read_page(options.out)
    bound = ("--draws", str(options.draws), "--bound-cells", str(options.bound_cells))
    plan = Plan(runs=options.runs, data=options.data, training=tuple(settings), evaluation=bound)
    for task in tasks:
        plan.experiment(task, task.splits[0])  # wrong settings are told now, not after hours
    if options.tables:
        _write(options, plan)
        return 0
    return _run(options, plan, tasks)


def _run(options: Results, plan: "Plan", tasks: "list[Task]") -> int:
    """Every run of the tasks, one after another; a task that cannot be done does not stop the others."""
    from experiments.real_cells.work import StoppedEarly, complete, missing, with_files

    jobs = [(task, split) for task in with_files(plan, tasks) for split in task.splits]
    failed, written = 0, False
    for number, (task, split) in enumerate(jobs, 1):
        try:
            if not missing(plan, task, split):
                continue
            print(f"[{number}/{len(jobs)}] {task.experiment}, split {split.name}", flush=True)
            complete(plan, task, split)
        except StoppedEarly:
            return START_AGAIN
        except InputError as error:
            failed += 1
            print(f"lingshu results: {task.experiment}, split {split.name}: {error}", file=sys.stderr, flush=True)
            continue
        _write(options, plan)
        written = True
    if not written:
        _write(options, plan)
    return BAD_INPUT if failed else 0


def _write(options: Results, plan: "Plan") -> None:
    """The tables of all tasks that have runs, whichever were asked for."""
    from experiments.real_cells.page import read_page, with_tables, write_page, write_pictures
    from experiments.real_cells.tables import tables
    from experiments.real_cells.tasks import all_tasks

    found, pictures = tables(plan, list(all_tasks().values()), options.out.stem)
    if not found:
        print(f"no run of a task is evaluated in {options.runs}: {options.out} is left as it is")
        return
    write_pictures(options.out, pictures)
    changed = write_page(options.out, with_tables(read_page(options.out), found, "Results on real cells"))
    print(f"{options.out}: {len(found)} tables {'written' if changed else 'are as they were'}")
