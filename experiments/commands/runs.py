"""`lingshu runs`: every run with its progress and scores; `show RUN` tells one in full, `diff RUN RUN` compares two."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.options import DEFAULT_RUNS, Place

if TYPE_CHECKING:
    from experiments.registry.entries import RunEntry

LISTED = ("nats", "pearson_delta", "pds", "mmd")
COLUMNS = ("experiment", "run", "store", "split")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """Options of `lingshu runs`."""

    what: tyro.conf.Positional[tuple[str, ...]] = ()
    """Nothing: the table. `show RUN`: everything about one. `diff RUN RUN`: settings and scores of two."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    part: Literal["val", "test"] = "test"
    """Part of the split whose latest evaluation is shown."""
    filter: str = ""
    """COLUMN=TEXT, several separated by commas: only runs whose experiment, run, store or split contains the text."""
    sort: str = ""
    """A metric: the best run first. The one last touched comes first where not given."""


def run(arguments: Sequence[str]) -> int:
    """Print the table, one run, or the difference of two."""
    options: Runs = parse(Runs, arguments, prog="lingshu runs", description="List runs, show one, compare two.")
    verb, *references = options.what or ("list",)
    wanted = {"list": 0, "show": 1, "diff": 2}
    if verb not in wanted or len(references) != wanted[verb]:
        raise InputError("write `lingshu runs`, `lingshu runs show RUN` or `lingshu runs diff RUN RUN`.")

    from experiments.commands.run_details import print_difference, print_run
    from experiments.registry.entries import RunEntry
    from experiments.runs import find_run

    if verb == "list":
        return _list(options)
    entries = [RunEntry.read(find_run(reference, options.runs)) for reference in references]
    if verb == "show":
        print_run(entries[0])
    else:
        print_difference(entries[0], entries[1], options.part)
    return 0


def _list(options: Runs) -> int:
    from rich.table import Table

    from experiments.commands.tables import print_table, score_text
    from experiments.registry.scores import LOWER_IS_BETTER, check_metric

    metric = check_metric(options.sort) if options.sort else ""
    wanted = _filters(options.filter)
    entries = [entry for entry in _readable(options.runs) if _fits(entry, wanted)]
    if metric:
        sign = 1 if metric in LOWER_IS_BETTER else -1
        known = [entry for entry in entries if entry.value(metric, options.part) is not None]
        known.sort(key=lambda entry: sign * (entry.value(metric, options.part) or 0.0))
        entries = known + [entry for entry in entries if entry not in known]
    if not entries:
        which = f" with {options.filter}" if options.filter else ""
        print(f"no runs in {options.runs}{which}. Train one: lingshu train EXPERIMENT --store STORE")
        return 0
    asked = (metric, *LISTED) if metric and metric not in (*LISTED, "val_nats") else LISTED
    shown = [name for name in asked if any(entry.value(name, options.part) is not None for entry in entries)]
    table = Table("experiment", "run", "step", "val nats/cell", *shown, "evaluations", "store", "split", box=None)
    for entry in entries:
        table.add_row(
            entry.experiment,
            entry.folder.id,
            f"{entry.step:,}/{entry.steps:,}",
            "" if entry.val_nats is None else f"{entry.val_nats:,.1f}",
            *(score_text(name, entry.value(name, options.part)) for name in shown),
            str(len(entry.scores)),
            entry.config["store"],
            entry.config["split"],
        )
    print_table(table)
    return 0


def _readable(runs: Place) -> "Iterable[RunEntry]":
    from experiments.load import warn
    from experiments.registry.entries import RunEntry
    from experiments.runs import all_runs

    for folder in all_runs(runs):
        try:
            yield RunEntry.read(folder)
        except InputError as error:
            warn(str(error))


def _filters(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for column, equals, _ in pairs:
        if column.strip() not in COLUMNS or not equals:
            raise InputError(f"--filter takes COLUMN=TEXT with a column of {', '.join(COLUMNS)}; got {text!r}.")
    return {column.strip(): value.strip() for column, _, value in pairs}


def _fits(entry: "RunEntry", wanted: dict[str, str]) -> bool:
    values = {"experiment": entry.experiment, "run": entry.folder.id, **{k: entry.config[k] for k in COLUMNS[2:]}}
    return all(text in values[column] for column, text in wanted.items())
