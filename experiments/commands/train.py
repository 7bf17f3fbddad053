"""`lingshu train EXPERIMENT --store STORE`: train, or go on training; the same command resumes."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from data_pipelines.errors import InputError
from experiments.accelerators import MOST_DEVICES, Device, use_device
from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, Place, runs_arguments
from experiments.configs import EXPERIMENTS, check_name, load_experiment
from experiments.configs.sizes import SIZES, DataShape, Size
from experiments.early_stop import START_AGAIN, stopping_early
from experiments.experiment import Experiment, is_moving
from experiments.profiling import ProfiledSteps
from experiments.runs import check_name as check_run_name
from lingshu_jax.parallel.cluster import find_place
from lingshu_jax.parallel.config import DistributedConfig
from lingshu_jax.parallel.roll_call import AddressTaken, LeaderFailed, MissingProcesses

if TYPE_CHECKING:
    from experiments.train import TrainResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Options of `lingshu train`."""

    experiment: tyro.conf.Positional[str]
    """Name of the experiment."""
    store: str | None = None
    """The cell store to train on."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    run: str | None = None
    """Name of the run; derived from experiment, store, split and seed where not given."""
    new: bool = False
    """Start another run beside an existing one of the same settings."""
    size: Size | None = None
    """Model size, for experiments on one's own data; chosen by device and data where not given."""
    device: Device = "auto"
    """cpu: compute on the CPU although this machine shows an accelerator."""
    profile: str | None = None
    """START:STOP: write an XProf trace of these steps into the run folder."""
    dry_run: bool = False
    """Print mesh, shardings, parameters, FLOPs and memory per device, and train nothing."""
    devices: int | None = None
    """With --dry-run: as many devices of the kind that is here."""
    topology: str | None = None
    """With --dry-run: other devices than those here, as v5e:16x16, v5p:8x8x8 or h100:64."""
    distributed: DistributedConfig = DistributedConfig()
    """How the processes of one run find each other; give every process the same command."""
    config: Annotated[Experiment, tyro.conf.arg(name="")]
    """Every setting of the experiment."""


def run(arguments: Sequence[str]) -> int:
    """Train and say how it ended."""
    with stopping_early():
        return _run(parse_options(arguments))


def _run(options: Train) -> int:
    if options.dry_run:
        return _dry_run(options)
    profile = check_options(options)
    if options.store is None:
        raise InputError(f"no store given. Pass one: lingshu train {options.experiment} --store STORE")

    try:
        return _train(options, profile)
    except LeaderFailed as error:
        raise InputError(f"process 0 says: {error}") from error
    except MissingProcesses as error:
        print(f"lingshu train: {error}. Start all processes again.", file=sys.stderr)
        return START_AGAIN


def _train(options: Train, profile: ProfiledSteps | None) -> int:
    from data_pipelines import CellStore, load_split

    assert options.store is not None
    store = CellStore.open(options.store)
    split = load_split(store, options.config.data.split)
    use_device(options.device)
    join_processes(options.distributed)

    from experiments.train import TrainJob, train

    job = TrainJob(
        experiment=options.config,
        store=store,
        split=split,
        root=options.runs,
        name=options.run,
        new=options.new,
        profile=profile,
    )
    return say_result(train(job), options)


def check_options(options: Train) -> ProfiledSteps | None:
    """The steps to trace, if any, of options that fit together, as far as can be told without store and runs.

    Raises:
        InputError: they do not.
    """
    if options.devices is not None or options.topology is not None:
        raise InputError("--devices and --topology say what to plan for. Pass --dry-run with them.")
    if options.run is not None:
        check_run_name(options.run)
    if options.profile is None:
        return None
    profile = ProfiledSteps.parse(options.profile)
    profile.check(options.config.training.steps)
    return profile


def join_processes(config: DistributedConfig) -> None:
    """Join the other processes of the run, if there are any; before anything asks for a device.

    Raises:
        InputError: the settings are not enough to find them, or the coordinator's port is taken.
        MissingProcesses: some have not come in time.
    """
    try:
        place = find_place(config, os.environ)
    except ValueError as error:
        raise InputError(str(error)) from error
    if place is not None:
        from lingshu_jax.parallel.distributed import start

        try:
            start(place, config)
        except AddressTaken as error:
            raise InputError(str(error)) from error


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
    print_next(["sample", result.run.shortest_name(), "--split", "test", *runs_arguments(options.runs)])
    return 0


def _dry_run(options: Train) -> int:
    if options.run is not None:
        check_run_name(options.run)
    if options.devices is not None and not 1 <= options.devices <= MOST_DEVICES:
        raise InputError(f"--devices must lie in 1..{MOST_DEVICES:,}, got {options.devices}.")
    if options.topology is None:
        use_device(options.device)
    elif options.devices is not None:
        raise InputError("--topology says how many devices there are. Leave --devices out.")

    from experiments import hardware
    from experiments.blueprint import Blueprint, Cells
    from experiments.dry_run import describe

    on = hardware.here() if options.topology is None else hardware.named(options.topology)
    if options.devices is not None:
        on = dataclasses.replace(on, devices=options.devices)
    if options.store is None:
        print(describe(Blueprint(options.config, Cells()), on))
        return 0
    from data_pipelines import CellStore

    store = CellStore.open(options.store)
    blueprint = Blueprint(options.config, Cells.of(store))
    if options.config.init.source is not None:
        from experiments.inheritance import check_frozen, check_parent, find_parent, inherited_blueprint, taken_over

        check_frozen(options.config.init.freeze, blueprint.parameters)
        parent = find_parent(options.config.init, options.runs)
        check_parent(parent, options.config, store.panel, blueprint.vocabulary)
        print("\n".join([*taken_over(parent, store.panel, blueprint.vocabulary), ""]))
        blueprint = inherited_blueprint(blueprint, store.panel, parent)
    print(describe(blueprint, on))
    return 0


def parse_options(arguments: Sequence[str], *, look_into_store: bool = True) -> Train:
    """Options with the named experiment's settings as defaults, chosen by the store if it is here to look into.

    Raises:
        InputError: no such experiment, store, size or setting.
    """
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--store")
    early.add_argument("--size", choices=SIZES)
    early.add_argument("--runs", default=DEFAULT_RUNS)
    early.add_argument("--init.from", dest="parent")
    early.add_argument("--run")
    try:
        known, rest = early.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise InputError(f"{error}. See: lingshu train --help") from None
    named = bool(rest) and not rest[0].startswith("-")
    if not named and not {"-h", "--help"} & set(rest):
        raise InputError(f"no experiment given. There are: {', '.join(EXPERIMENTS)}.")
    name = check_name(rest[0]) if named else "demo"
    default = load_experiment(name, size=known.size, shape=_shape(known.store) if look_into_store else None)
    if known.parent is not None and look_into_store:
        default = _like_parent(default, known)
    return parse(
        Train,
        arguments,
        prog="lingshu train",
        description=f"Train an experiment on a store. Experiments: {', '.join(EXPERIMENTS)}.",
        default=Train(experiment=default.name, config=default),
    )


def _like_parent(default: Experiment, known: argparse.Namespace) -> Experiment:
    """The experiment with the model of the run that it begins with."""
    from experiments.origin import recorded_model
    from experiments.runs import find_run
    from experiments.storage import folder_at

    if known.size is not None:
        raise InputError(f"the size of a fine-tuned model is its parent's, {known.parent}. Leave --size out.")
    if is_moving(known.parent):
        return default  # refused where it is read
    root = folder_at(known.runs)
    try:
        model = find_run(known.parent, root).experiment().model
    except InputError:  # a run that has begun with it goes on without it
        model = recorded_model(default.name, known.parent, root, known.run)
        if model is None:
            raise
    return dataclasses.replace(default, model=model)


def _shape(store: str | None) -> DataShape | None:
    if store is None:
        return None
    from data_pipelines import CellStore

    opened = CellStore.open(store)
    return DataShape(cells=opened.n_cells, genes=opened.n_genes)
