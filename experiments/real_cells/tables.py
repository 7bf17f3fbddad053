"""All tables of the page, from what is found of the tasks; nothing is typed."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from experiments.real_cells.found import Found, find
from experiments.real_cells.plan import Plan
from experiments.real_cells.reading import Reading, Table
from experiments.real_cells.task import Task

DATA, COMMANDS = "data", "commands"
"""Names of the table of data sets, and of the list of commands behind the runs."""


def tables(plan: Plan, tasks: Sequence[Task], folder: str) -> tuple[dict[str, list[str]], dict[str, bytes]]:
    """Name of a table -> its lines, and place of a picture beside the page -> its content.

    A table none of whose runs is there is left out, so the page keeps it.

    Args:
        plan: where runs are.
        tasks: of the page.
        folder: of the pictures, beside the page.
    """
    found = {task.experiment: [one for split in task.splits if (one := find(plan, task, split))] for task in tasks}
    places: dict[str, tuple[Reading, list[Task]]] = {}
    for task in tasks:
        for reading in task.reads:
            places.setdefault(reading.place(task), (reading, []))[1].append(task)
    lines: dict[str, list[str]] = {}
    pictures: dict[str, bytes] = {}
    for name, (reading, theirs) in places.items():
        there = [one for task in theirs for one in found[task.experiment]]
        if there:
            table = reading.table(there)
            drawn = {f"{folder}/{one.name}.png": one for one in table.drawings}
            shown = [line for place, one in drawn.items() for line in (f"![{one.about}]({place})", "")]
            lines[name] = [*table.lines(), "", *shown, *_sources(theirs, found)]
            pictures |= {place: one.png for place, one in drawn.items()}
    everything = [one for of_task in found.values() for one in of_task]
    if everything:
        lines = {DATA: _data_sets(tasks), **lines, COMMANDS: _commands(plan, everything)}
    return lines, pictures


def _data_sets(tasks: Sequence[Task]) -> list[str]:
    """Every file, what its columns mean, where it comes from, and the tasks on it."""
    rows = []
    for data in dict.fromkeys(task.data for task in tasks):
        names = ", ".join(task.experiment for task in tasks if task.data == data)
        columns = data.columns
        roles = [f"`{column}`" for column in columns.context]
        if columns.perturbation:
            roles.append(f"`{columns.perturbation}` (control `{', '.join(columns.control)}`)")
        rows.append((f"`{data.file}`", data.about, ", ".join(roles) or "none", data.source, names))
    return Table(("file", "what it is", "conditions in obs", "carried by", "tasks"), tuple(rows)).lines()


def _sources(tasks: Sequence[Task], found: dict[str, list[Found]]) -> list[str]:
    """The command of a table's rows, and the runs that are missing."""
    names = shlex.join(task.experiment for task in tasks if found[task.experiment])
    missing = []
    for task in tasks:
        there = {one.split.name for one in found[task.experiment]}
        splits = [split.name for split in task.splits if split.name not in there]
        if splits:
            missing.append(task.experiment + ("" if len(task.splits) == 1 else f" ({', '.join(splits)})"))
    lines = [f"`lingshu results --data DATA --only {names}`"]
    return lines + (["", f"Not run: {', '.join(missing)}."] if missing else [])


def _commands(plan: Plan, found: Sequence[Found]) -> list[str]:
    """What trained and evaluated every run, as it would be typed with the default folder of runs."""
    shown = dataclasses.replace(plan, runs=pathlib.Path("runs"), data=pathlib.Path("DATA"))
    lines = ["```sh"]
    for store in dict.fromkeys(tuple(shown.ingest(one.task)) for one in found):
        lines.append(shlex.join(["lingshu", *store]))
    for one in found:
        lines += ["", f"# {one.run.id}: split {one.split.name}, {one.split.kind}"]
        lines.append(shlex.join(["lingshu", *shown.train(one.task, one.split)]))
        seeds = [evaluation.seed for evaluation in one.evaluations]
        lines += [shlex.join(["lingshu", *shown.evaluate(one.task, one.run, seed)]) for seed in seeds]
    return [*lines, "```"]
