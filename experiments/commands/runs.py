"""`lingshu runs`: every run with its progress and last held-out bound."""

import dataclasses
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.options import DEFAULT_RUNS, Place


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """Options of `lingshu runs`."""

    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""


def run(arguments: Sequence[str]) -> int:
    """Print the table, the run last touched first."""
    options = parse(Runs, arguments, prog="lingshu runs", description="List runs.")

    from rich.table import Table

    from experiments.commands.tables import print_table
    from experiments.load import warn
    from experiments.runs import all_runs

    table = Table("experiment", "run", "step", "val nats/cell", "evaluations", "store", "split", box=None)
    for entry in all_runs(options.runs):
        try:
            config, experiment, metrics = entry.config(), entry.experiment(), entry.read_metrics()
        except InputError as error:
            warn(str(error))
            continue
        bounds = [line["val_nats"] for line in metrics if "val_nats" in line]
        steps = experiment.training.steps
        table.add_row(
            entry.path.parent.name,
            entry.id,
            f"{max((line['step'] for line in metrics), default=0):,}/{steps:,}",
            f"{bounds[-1]:,.1f}" if bounds else "",
            str(len(list(entry.evaluations.glob("*/metrics.json")))),
            config["store"],
            config["split"],
        )
    if not table.row_count:
        print(f"no runs in {options.runs}. Train one: lingshu train EXPERIMENT --store STORE")
        return 0
    print_table(table)
    return 0
