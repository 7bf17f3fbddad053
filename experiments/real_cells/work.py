"""The steps of a task: ingest, split, train, evaluate; what is done is skipped, what was killed goes on."""

import importlib
import pathlib
import shlex
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.early_stop import START_AGAIN
from experiments.real_cells.found import evaluation_of, finished_run
from experiments.real_cells.plan import Plan
from experiments.real_cells.task import NamedSplit, Task
from experiments.runs import RunFolder


class StoppedEarly(Exception):
    """A step was asked to stop and has saved: the same command goes on."""


def complete(plan: Plan, task: Task, split: NamedSplit) -> None:
    """Do what is missing of one run of a task.

    Raises:
        InputError: data, store, split and run do not fit together.
        StoppedEarly: training was asked to stop.
    """
    run = trained(plan, task, split)
    seeds = _missing_seeds(plan, task, run)
    if seeds:
        _prepare(plan, task, split)
    for seed in seeds:
        _command(plan.evaluate(task, run, seed))


def trained(plan: Plan, task: Task, split: NamedSplit) -> RunFolder:
    """The finished run of a task; trained now, or to its end, where there is none.

    Raises:
        InputError: data, store, split and run do not fit together.
        StoppedEarly: training was asked to stop.
    """
    run = finished_run(plan, task, split)
    if run is None:
        _prepare(plan, task, split)
        _command(plan.train(task, split))
        run = finished_run(plan, task, split)
    if run is None:
        raise InputError(f"{task.experiment} on split {split.name!r} has trained, and its run is not in {plan.runs}.")
    return run


def with_files(plan: Plan, tasks: Sequence[Task]) -> list[Task]:
    """The tasks whose file is there; says which are not.

    Raises:
        InputError: no folder of data, or none of the files.
    """
    if plan.data is None or not plan.data.is_dir():
        wrong = "no folder of data was given" if plan.data is None else f"{plan.data} is no folder"
        raise InputError(f"{wrong}. Pass --data FOLDER with {tasks[0].data.file} and the like, or --tables.")
    there = [task for task in tasks if plan.file(task).is_file()]
    if not there:
        files = ", ".join(dict.fromkeys(task.data.file for task in tasks))
        raise InputError(f"{plan.data} has none of the files: {files}. docs/results.md says where they come from.")
    for task in tasks:
        if task not in there:
            print(f"skipped: {task.experiment}, {plan.file(task)} is not there ({task.data.source})")
    return there


def missing(plan: Plan, task: Task, split: NamedSplit) -> bool:
    """Whether anything of a run is to be done."""
    run = finished_run(plan, task, split)
    return run is None or bool(_missing_seeds(plan, task, run))


def _missing_seeds(plan: Plan, task: Task, run: RunFolder) -> list[int]:
    step = task.stop.step(run)
    return [s for s in range(task.seeds) if evaluation_of(run, step, plan.settings(task, run, s)) is None]


def _prepare(plan: Plan, task: Task, split: NamedSplit) -> None:
    """The store of the task's file as it is now, and the split."""
    from data_pipelines import CellStore, make_split

    if not _is_ingested(plan.store(task), plan.file(task), task):
        _command(plan.ingest(task))
    make_split(CellStore.open(plan.store(task)), split.kind, name=split.name)


def _is_ingested(store: str, file: pathlib.Path, task: Task) -> bool:
    from data_pipelines import CellStore
    from data_pipelines.ingestion.plan import checksum

    try:
        opened = CellStore.open(store)
    except InputError:
        return False
    theirs = [source["checksum"] for source in opened.manifest["sources"]]
    return opened.columns == task.data.columns and theirs == [checksum(file)]


def _command(arguments: list[str]) -> None:
    """Run a `lingshu` command in this process, and say so."""
    name, *rest = arguments
    print(f"$ {shlex.join(['lingshu', *arguments])}", flush=True)
    status = importlib.import_module(f"experiments.commands.{name}").run(rest)
    if status == START_AGAIN:
        raise StoppedEarly
    if status:
        raise InputError(f"`{shlex.join(['lingshu', *arguments])}` ended with status {status}.")
