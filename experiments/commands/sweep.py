"""`lingshu sweep RUN`: the conditions of a split drawn with many samplers: schedules, steps and guidance scales."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, Place, runs_arguments
from experiments.commands.sample import split_conditions
from experiments.progress import StageProgress, duration

if TYPE_CHECKING:
    import pandas

    from experiments.evaluation.sweep import Grid
    from experiments.evaluation.sweep_rows import Sweep, SweepRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of `lingshu sweep`. Lists are separated by commas."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, an alias, or `latest`."""
    schedules: str = "geometric,cosine"
    """Of geometric, cosine and linear."""
    steps: str = "3,8,32"
    """Numbers of reverse steps."""
    scales: str = "0"
    """Guidance scales w; 0 is none."""
    guidance: Literal["control", "null"] = "control"
    """What is guided away from."""
    split: Literal["val", "test"] = "val"
    """Part of the run's split. Choose by val: what was chosen by test cells cannot be judged by them."""
    n: str | None = None
    """Cells per condition: a number, or `match`; as `lingshu sample --split` where not given."""
    most_cells: int = 2000
    """At most so many cells are drawn with each sampler; conditions keep their shares."""
    step: int | None = None
    """Which checkpoint; the newest where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders."""
    store: str | None = None
    """The run's store, where it has moved."""
    seed: int = 0
    """Same seed, same cells."""


def run(arguments: Sequence[str]) -> int:
    """Draw, compare, and print the table."""
    options: SweepOptions = parse(
        SweepOptions, arguments, prog="lingshu sweep", description="Draw a split's conditions with many samplers."
    )
    grid = _grid(options)
    if options.most_cells < 20 or options.seed < 0:
        raise InputError("--most-cells must be >= 20, and --seed >= 0.")

    from data_pipelines import load_statistics
    from experiments.commands.recording import recording
    from experiments.evaluation.sweep import SweepJob, sweep
    from experiments.load import load_run
    from experiments.run_data import run_data

    loaded = load_run(options.run, runs=options.runs, step=options.step)
    store, split = run_data(loaded.folder, options.store)
    table = _at_most(options.most_cells, split_conditions(loaded, options.split, options.n, options.store))
    with recording(loaded.folder), StageProgress() as progress:
        job = SweepJob(
            run=loaded,
            store=store,
            split=split,
            statistics=load_statistics(store, split, progress=progress),
            table=table,
            part=options.split,
            seed=options.seed,
        )
        samplers = list(grid.samplers(loaded.plan.experiment.sampler))
        done = sum(job.known().row(sampler) is not None for _, sampler in samplers)
        print(f"{len(samplers)} samplers x {sum(table['n_cells']):,} cells; {done} of them are there already")
        found = sweep(job, samplers, progress=progress, told=_say)
    _print(found)
    print(f"saved in {job.path}")
    print_next(["report", loaded.folder.id, *runs_arguments(options.runs)])
    return 0


def _grid(options: SweepOptions) -> "Grid":
    from experiments.evaluation.sweep import Grid

    def parts(text: str) -> list[str]:
        return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))

    try:
        steps = tuple(int(part) for part in parts(options.steps))
        scales = tuple(float(part) for part in parts(options.scales))
    except ValueError as error:
        raise InputError(f"--steps takes whole numbers and --scales numbers, separated by commas ({error}).") from error
    if not all(-100 < scale < 100 for scale in scales):
        raise InputError(f"--scales must lie in -100..100, got {options.scales}.")
    return Grid(schedules=tuple(parts(options.schedules)), steps=steps, scales=scales, guidance=options.guidance)


def _at_most(cells: int, table: "pandas.DataFrame") -> "pandas.DataFrame":
    """The table with all numbers of cells made smaller alike, where they are too many."""
    numbers: Any = table["n_cells"].to_numpy()
    if numbers.sum() <= cells:
        return table
    return table.assign(n_cells=(numbers * cells // numbers.sum()).clip(min=1))


def _say(row: "SweepRow") -> None:
    print(f"{_name(row)}: {row.n:,} cells compared, {duration(row.seconds or 0)}", flush=True)


def _name(row: "SweepRow") -> str:
    return row.name if row.steps is None else f"{row.name}, {row.steps} steps, w = {row.scale:g}"


def _print(found: "Sweep") -> None:
    from experiments.commands.tables import print_table
    from experiments.evaluation.sweep_pictures import shown_columns

    shown = shown_columns(found)
    rows = []
    for row in (*found.reference, *found.rows):
        steps = "" if row.steps is None else str(row.steps)
        scale = "" if row.scale is None else f"{row.scale:g}"
        values = (_number(row.values.get(key), digits) for key, (_, digits) in shown.items())
        rows.append([row.name, steps, scale, *values])
    print_table(["schedule", "steps", "w", *(title for title, _ in shown.values())], rows)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
