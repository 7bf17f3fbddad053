"""`lingshu train EXPERIMENT --store STORE`: train, or go on training; the same command resumes."""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, runs_arguments
from experiments.configs import EXPERIMENTS, check_name, load_experiment
from experiments.configs.sizes import SIZES, DataShape, Size
from experiments.experiment import Experiment
from lingshu_jax.parallel.cluster import find_place
from lingshu_jax.parallel.config import DistributedConfig
from lingshu_jax.parallel.roll_call import LeaderFailed, MissingProcesses

if TYPE_CHECKING:
    from experiments.train import TrainResult

START_AGAIN = 75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Options of `lingshu train`."""

    experiment: tyro.conf.Positional[str]
    """Name of the experiment."""
    store: str | None = None
    """The cell store to train on."""
    runs: pathlib.Path = DEFAULT_RUNS
    """Folder of run folders."""
    run: str | None = None
    """Name of the run; derived from experiment, store, split and seed where not given."""
    new: bool = False
    """Start another run beside an existing one of the same settings."""
    size: Size | None = None
    """Model size, for experiments on one's own data; chosen by device and data where not given."""
    dry_run: bool = False
    """Print parameters and sizes, and train nothing."""
    distributed: DistributedConfig = DistributedConfig()
    """How the processes of one run find each other; give every process the same command."""
    config: Annotated[Experiment, tyro.conf.arg(name="")]
    """Every setting of the experiment."""


def run(arguments: Sequence[str]) -> int:
    """Train and say how it ended."""
    options = parse_options(arguments)
    if options.dry_run:
        from experiments.dry_run import describe_model

        print(describe_model(options.config, _shape(options.store)))
        return 0
    if options.store is None:
        raise InputError(f"no store given. Pass one: lingshu train {options.experiment} --store STORE")

    from data_pipelines import CellStore, load_split

    store = CellStore.open(options.store)
    split = load_split(store, options.config.data.split)

    try:
        join_processes(options.distributed)

        from experiments.train import TrainJob, train

        job = TrainJob(
            experiment=options.config,
            store=store,
            split=split,
            root=options.runs,
            name=options.run,
            new=options.new,
        )
        return say_result(train(job), options)
    except LeaderFailed as error:
        raise InputError(f"process 0 says: {error}") from error
    except MissingProcesses as error:
        print(f"lingshu train: {error}. Start all processes again.", file=sys.stderr)
        return START_AGAIN


def join_processes(config: DistributedConfig) -> None:
    """Join the other processes of the run, if there are any; before anything asks for a device.

    Raises:
        InputError: the settings are not enough to find them.
        MissingProcesses: some have not come in time.
    """
    try:
        place = find_place(config, os.environ)
    except ValueError as error:
        raise InputError(str(error)) from error
    if place is not None:
        from lingshu_jax.parallel.distributed import start

        start(place, config)


def say_result(result: "TrainResult", options: Train) -> int:
    """Print how training ended, from one process, and return the exit status."""
    from lingshu_jax.parallel.distributed import is_leader
    from lingshu_jax.training.loop import Outcome

    stopped = result.outcome is Outcome.STOPPED
    if not is_leader():
        return START_AGAIN if stopped else 0
    if stopped:
        print(f"stopped at step {result.step:,}, saved; the same command goes on from there")
        return START_AGAIN
    done = "is already finished" if result.was_finished else "finished"
    print(f"run {result.run.path} {done} at step {result.step:,}")
    print_next(["sample", result.run.id, "--split", "test", *runs_arguments(options.runs)])
    return 0


def parse_options(arguments: Sequence[str]) -> Train:
    """Options with the named experiment's settings as defaults.

    Raises:
        InputError: no such experiment, store, size or setting.
    """
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    early.add_argument("--store")
    early.add_argument("--size", choices=SIZES)
    try:
        known, rest = early.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See: lingshu train --help") from None
    named = bool(rest) and not rest[0].startswith("-")
    if not named and not {"-h", "--help"} & set(rest):
        raise InputError(f"no experiment given. There are: {', '.join(EXPERIMENTS)}.")
    name = check_name(rest[0]) if named else "demo"
    default = load_experiment(name, size=known.size, shape=_shape(known.store))
    return parse(
        Train,
        arguments,
        prog="lingshu train",
        description=f"Train an experiment on a store. Experiments: {', '.join(EXPERIMENTS)}.",
        default=Train(experiment=default.name, config=default),
    )


def _shape(store: str | None) -> DataShape | None:
    if store is None:
        return None
    from data_pipelines import CellStore

    opened = CellStore.open(store)
    return DataShape(cells=opened.n_cells, genes=opened.n_genes)
