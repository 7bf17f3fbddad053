"""`lingshu launch slurm|jobset EXPERIMENT ...`: write a cluster job that runs `lingshu train` with these arguments."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.command_line import parse, take_prefixed
from experiments.commands.train import Train, parse_options
from experiments.launch import jobset, slurm
from experiments.launch.check import check_training
from experiments.launch.config import JobSetConfig, SlurmConfig
from experiments.storage import storage_of
from lingshu_jax.vocabulary import nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSlurm:
    """Options of `lingshu launch slurm`; all others are those of `lingshu train`."""

    launch: SlurmConfig = SlurmConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchJobSet:
    """Options of `lingshu launch jobset`; all others are those of `lingshu train`."""

    launch: JobSetConfig


CLUSTERS = {"slurm": LaunchSlurm, "jobset": LaunchJobSet}


def run(arguments: Sequence[str]) -> int:
    """Write the script or manifest, and print how to submit it."""
    cluster, *rest = arguments or [""]
    if cluster in ("-h", "--help"):
        print(f"usage: lingshu launch {'|'.join(CLUSTERS)} EXPERIMENT --store STORE [--launch.* ...] [TRAIN OPTIONS]")
        print("lingshu launch slurm --help and lingshu launch jobset --help tell the --launch options.")
        raise SystemExit(0)
    if cluster not in CLUSTERS:
        raise InputError(f"no cluster {cluster!r} to launch on (nearest: {nearest(cluster, CLUSTERS)}).")
    given, training = take_prefixed(rest, "launch")
    asks_help = bool({"-h", "--help"} & set(training))
    options = parse(
        CLUSTERS[cluster],
        ["--help"] if asks_help else [word for name, value in given.items() for word in (f"--launch.{name}", value)],
        prog=f"lingshu launch {cluster}",
        description="Write a cluster job for `lingshu train`.",
    )
    parsed = parse_options(training, look_into_store=False)
    check_training(parsed, options.launch, model_known=_is_model_known(parsed))
    return _write(options.launch, ["lingshu", "train", *training])


def _is_model_known(options: Train) -> bool:
    """Whether the model is that of the cluster: it may depend on the store, on the device, or on another run."""
    of_one_size = options.config.name not in ("cells", "perturb")
    return options.config.init.source is None and (of_one_size or options.size is not None)


def _write(config: SlurmConfig | JobSetConfig, command: list[str]) -> int:
    if isinstance(config, SlurmConfig):
        text, suffix, submit = slurm.render(config, command), "sbatch", ["sbatch"]
    else:
        text, suffix, submit = jobset.render(config, command), "yaml", ["kubectl", "apply", "-f"]
    out = pathlib.Path(config.out or f"{config.name}.{suffix}")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--launch.out {out} is no file in a folder that is there. Make {out.parent}, or name a file.")
    storage_of(out).write(out, text.encode())
    print(f"{out}: {shlex.join(command)}")
    print(f"next: {shlex.join([*submit, str(out)])}")
    return 0
