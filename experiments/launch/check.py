"""What a cluster would refuse, or lose, after hours in its queue: refused before a job is written."""

from data_pipelines.errors import InputError
from data_pipelines.loader import parts_per_slab
from experiments.accelerators import chips_of
from experiments.commands.train import Train, check_options
from experiments.launch.config import JobSetConfig, SlurmConfig
from experiments.launch.jobset import slice_of
from experiments.load import warn
from lingshu_jax.buckets import in_bucket
from lingshu_jax.parallel.choice import Demands, choose_mesh

_PLACE = ("coordinator", "processes", "process")


def check_training(options: Train, launch: SlurmConfig | JobSetConfig, *, model_known: bool) -> None:
    """Refuse what `lingshu train` would refuse there, but for the store, which the cluster alone may see.

    Args:
        options: of `lingshu train`.
        launch: machines and what they have.
        model_known: the model does not depend on the store, or on a run to begin with.

    Raises:
        InputError: says which option, and what instead.
    """
    if options.dry_run:
        raise InputError("--dry-run needs no cluster: lingshu train EXPERIMENT --dry-run --topology v5e:16x16")
    if options.store is None:
        raise InputError("no store given. Pass the one that the cluster sees: --store STORE")
    check_options(options)
    if options.new:
        raise InputError(
            "--new would begin another run after every restart of the job. Give this one a name: --run NAME"
        )
    given = [f"--distributed.{name}" for name in _PLACE if getattr(options.distributed, name) is not None]
    if given:
        raise InputError(f"each process is told by the cluster who it is. Leave {', '.join(given)} out.")
    if isinstance(launch, JobSetConfig) and not in_bucket(options.runs):
        raise InputError(
            f"--runs {options.runs} would be inside of each pod, and lost with it. Pass a bucket that all of them see: "
            f"--runs gs://BUCKET/runs"
        )
        if "://" not in str(options.store):
            warn(f"--store {options.store} is a folder: it must be in the image, or be a bucket's URL (gs://...).")
    parts_per_slab(options.config.training.batch_size, processes_of(launch))
    if model_known:
        _check_mesh(options, _devices(launch))


def _devices(launch: SlurmConfig | JobSetConfig) -> int:
    if isinstance(launch, SlurmConfig):
        return launch.nodes * launch.devices
    return launch.machines * launch.gpus if launch.topology is None else chips_of(launch.topology)[1]


def processes_of(launch: SlurmConfig | JobSetConfig) -> int:
    """How many processes the job has: one for each GPU under SLURM, one for each machine of a JobSet."""
    if isinstance(launch, SlurmConfig):
        return launch.nodes * launch.devices
    return launch.machines if launch.topology is None else slice_of(launch.topology)[0]


def _check_mesh(options: Train, devices: int) -> None:
    experiment = options.config
    model = experiment.model
    demands = Demands(
        batch_size=experiment.training.batch_size,
        microbatches=experiment.training.microbatches,
        heads=model.heads,
        width=model.width,
        ffn_width=model.ffn_width,
    )
    try:
        choose_mesh(experiment.mesh, demands, devices)
    except ValueError as error:
        raise InputError(str(error)) from error
