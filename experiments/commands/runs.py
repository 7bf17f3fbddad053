"""`lingshu runs`: every run with its progress and scores; one in full, two compared, aliases, and the index of all."""

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
    """Nothing: the table. `show RUN`: everything about one. `diff RUN RUN`: settings and scores of two. `alias`: the
    aliases. `alias NAME RUN`: let a name stand for a checkpoint of a run. `unalias NAME`: forget it. `ui`: serve
    MLflow's page of the registry on this machine."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    part: Literal["val", "test"] = "test"
    """Part of the split whose latest evaluation is shown."""
    filter: str = ""
    """COLUMN=TEXT, several separated by commas: only runs whose experiment, run, store or split contains the text."""
    sort: str = ""
    """A metric: the best run first. The one last touched comes first where not given."""
    step: int | None = None
    """Which checkpoint `alias` names; the newest where not given."""
    port: int = 5000
    """Where `ui` listens, on 127.0.0.1."""
    rebuild: bool = False
    """Make the MLflow registry anew from the run folders, which hold everything."""


_ARGUMENTS = {"list": (0,), "show": (1,), "diff": (2,), "alias": (0, 2), "unalias": (1,), "ui": (0,)}


def run(arguments: Sequence[str]) -> int:
    """Print the table, one run, or the difference of two; or change the registry."""
    options: Runs = parse(Runs, arguments, prog="lingshu runs", description="List runs, show one, compare two.")
    verb, *references = options.what or ("list",)
    if len(references) not in _ARGUMENTS.get(verb, ()):
        raise InputError(
            "write `lingshu runs`, `lingshu runs show RUN`, `lingshu runs diff RUN RUN`, `lingshu runs alias NAME RUN`,"
            " `lingshu runs unalias NAME` or `lingshu runs ui`."
        )
    if options.step is not None and (verb != "alias" or not references):
        raise InputError("--step says which checkpoint an alias names: lingshu runs alias NAME RUN --step STEP")
    if options.rebuild:
        if verb != "list":
            raise InputError("--rebuild is of all runs. Write: lingshu runs --rebuild")
        from experiments.commands.registry import rebuild

        return rebuild(options.runs)
    if verb == "ui":
        from experiments.commands.registry import serve

        return serve(options.runs, options.port)
    if verb in ("alias", "unalias"):
        from experiments.commands.registry import change_aliases

        return change_aliases(options.runs, verb, references, options.step)
    return _list(options) if verb == "list" else _tell(options, verb, references)


def _tell(options: Runs, verb: str, references: Sequence[str]) -> int:
    from experiments.commands.run_details import print_difference, print_run
    from experiments.registry.entries import RunEntry
    from experiments.runs import find_run

    entries = [RunEntry.read(find_run(reference, options.runs)) for reference in references]
    if verb == "show":
        print_run(entries[0])
    else:
        print_difference(entries[0], entries[1], options.part)
    return 0


def _list(options: Runs) -> int:
    from experiments.commands.tables import print_table
    from experiments.load import warn
    from experiments.registry.scores import LOWER_IS_BETTER, check_metric

    metric = check_metric(options.sort) if options.sort else ""
    wanted = _filters(options.filter)
    entries = [entry for entry in _readable(options.runs) if _fits(entry, wanted)]
    if metric:
        sign = 1 if metric in LOWER_IS_BETTER else -1
        known = [entry for entry in entries if entry.value(metric, options.part) is not None]
        if entries and not known:
            warn(f"no run has {metric} on {options.part}: the table is not sorted.")
        known.sort(key=lambda entry: sign * (entry.value(metric, options.part) or 0.0))
        entries = known + [entry for entry in entries if entry not in known]
    if not entries:
        which = f" with {options.filter}" if options.filter else ""
        print(f"no runs in {options.runs}{which}. Train one: lingshu train EXPERIMENT --store STORE")
        return 0
    asked = (metric, *LISTED) if metric and metric not in (*LISTED, "val_nats") else LISTED
    shown = [name for name in asked if any(entry.value(name, options.part) is not None for entry in entries)]
    named = _aliases(options.runs)
    columns = ["experiment", "run", "step", "val nats/cell", *shown, "evaluations", "at step", "store", "split"]
    print_table(
        [*columns, *(["aliases"] if named else [])], [_row(entry, options.part, shown, named) for entry in entries]
    )
    return 0


def _row(entry: "RunEntry", part: str, metrics: Sequence[str], aliases: dict[str, str]) -> list[str]:
    from experiments.commands.tables import score_text

    latest, config = entry.latest(part), entry.config
    values = {} if latest is None else latest.values
    return [
        entry.experiment,
        entry.folder.id,
        f"{entry.step:,}/{entry.steps:,}",
        "" if entry.val_nats is None else f"{entry.val_nats:,.1f}",
        *(score_text(name, values.get(name)) for name in metrics),
        str(len(entry.scores)),
        "" if latest is None or latest.step is None else f"{latest.step:,}",
        f"{config['store']} ({config['store_hash'][:_DIGITS]})",
        f"{config['split']} ({config['split_hash'][:_DIGITS]})",
        *([aliases.get(entry.folder.name, "")] if aliases else []),
    ]


_DIGITS = 8
"""Of a hash, in the table; `show` has all of it."""


def _aliases(runs: Place) -> dict[str, str]:
    """EXPERIMENT/ID -> its aliases as text."""
    from experiments.registry.aliases import all_aliases

    found: dict[str, list[str]] = {}
    for alias in all_aliases(runs):
        gone = ", gone" if alias.missing(runs) else ""
        found.setdefault(alias.run, []).append(f"{alias.name} ({alias.step:,}{gone})")
    return {run: ", ".join(names) for run, names in found.items()}


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
    if len({column.strip() for column, _, _ in pairs}) < len(pairs):
        raise InputError(f"--filter {text!r} names a column twice. A run has one of each: write it once.")
    return {column.strip(): value.strip() for column, _, value in pairs}


def _fits(entry: "RunEntry", wanted: dict[str, str]) -> bool:
    values = {"experiment": entry.experiment, "run": entry.folder.id, **{k: entry.config[k] for k in COLUMNS[2:]}}
    return all(text in values[column] for column, text in wanted.items())
