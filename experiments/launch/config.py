"""What a cluster job needs to know beside the training command; checked before anything is written."""

import dataclasses
import re

_WORD = re.compile(r"[A-Za-z0-9][\w.:/+@-]*")
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_MEMORY = re.compile(r"\d+[KMGT]?")
_OPTION = re.compile(r"[a-z][a-z-]*(=[\w.,:/+@%&|\[\]()*-]+)?")
_SHORTEST = 600
"""Seconds between the beginning of a start and SIGTERM."""
_TIME = re.compile(r"(\d+-)?\d{1,3}(:\d{2}){0,2}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """A SLURM job."""

    nodes: int = 1
    """Machines."""
    devices: int = 8
    """GPUs of each machine; each has a process of its own."""
    name: str = "lingshu"
    """Name of the job."""
    time: str = "24:00:00"
    """Time limit of one start; the job is queued again when it ends in the middle of a run."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus: int | None = None
    """CPUs of each process: they read and decode cells. The cluster's default, often one, where not given."""
    memory: str | None = None
    """Of each machine, as 200G; the cluster's default where not given."""
    options: str = ""
    """More #SBATCH options, separated by spaces: 'constraint=h100 reservation=ours'."""
    grace_seconds: int = 300
    """SIGTERM comes so long before the time limit: enough to save a checkpoint."""
    max_restarts: int = 100
    """Starts after which a job with a killed task (status 137 or 143), or one that was told to start again (75) before
    half of its time was over, is not queued again; a job that has used its time always is."""
    setup: str = ""
    """Shell lines before the command: modules, an environment."""
    out: str | None = None
    """Where the script is written; NAME.sbatch where not given."""

    def __post_init__(self) -> None:
        _check_counts(self, "nodes", "devices", "grace_seconds", "max_restarts")
        for name in ("name", "partition", "account", "qos"):
            value = getattr(self, name)
            if value is not None and not _WORD.fullmatch(value):
                raise ValueError(f"launch.{name} {value!r} must be one word of letters, digits and . : / + @ - _")
        if not _TIME.fullmatch(self.time):
            raise ValueError(f"launch.time {self.time!r} is no SLURM time. Write HH:MM:SS or D-HH:MM:SS.")
        if self.cpus is not None:
            _check_counts(self, "cpus")
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            raise ValueError(f"launch.memory {self.memory!r} is no size. Write it as 200G.")
        for option in self.options.split():
            if not _OPTION.fullmatch(option):
                raise ValueError(f"launch.options: {option!r} is no #SBATCH option. Write NAME=VALUE, without --.")
        if self.seconds - self.grace_seconds < _SHORTEST:
            raise ValueError(
                f"launch.time {self.time} is {self.seconds:,} seconds, and SIGTERM comes launch.grace-seconds "
                f"{self.grace_seconds} before: a start needs {_SHORTEST} seconds between to compile and make steps. "
                f"Take a longer time, or a shorter grace."
            )

    @property
    def seconds(self) -> int:
        """The time limit of one start."""
        return _seconds(self.time)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSetConfig:
    """A JobSet on Kubernetes (GKE): one pod per machine, one process per pod."""

    image: str
    """Container image in which `lingshu` is installed."""
    topology: str | None = None
    """A TPU slice: v5e:16x16, v5p:8x8x8, v6e:16x16; machines and chips follow from it. None: GPUs."""
    nodes: int | None = None
    """GPU machines; 1 where not given."""
    devices: int | None = None
    """GPUs of each machine; 8 where not given."""
    name: str = "lingshu"
    """Name of the JobSet: a DNS label."""
    namespace: str = "default"
    grace_seconds: int = 300
    """Kubernetes waits so long between SIGTERM and SIGKILL: enough to save a checkpoint."""
    max_restarts: int = 100
    """Restarts after failures; those after an exit with status 75 are not counted."""
    service_account: str | None = None
    """Kubernetes service account with access to the buckets of store and runs."""
    out: str | None = None
    """Where the manifest is written; NAME.yaml where not given."""

    def __post_init__(self) -> None:
        _check_counts(self, "nodes", "devices", "grace_seconds", "max_restarts")
        if self.topology is not None and (self.nodes or self.devices):
            raise ValueError("launch.topology says how many machines and chips there are: leave nodes and devices out.")
        for name in ("name", "namespace"):
            if not _LABEL.fullmatch(getattr(self, name)):
                raise ValueError(
                    f"launch.{name} {getattr(self, name)!r} must be a DNS label: up to 40 lower-case letters, digits "
                    "and -, beginning with a letter."
                )
        for name in ("image", "service_account"):
            value = getattr(self, name)
            if value is not None and not _WORD.fullmatch(value):
                raise ValueError(f"launch.{name} {value!r} is none.")

    @property
    def machines(self) -> int:
        """GPU machines."""
        return self.nodes or 1

    @property
    def gpus(self) -> int:
        """Of each machine."""
        return self.devices or 8


def _check_counts(config: object, *names: str) -> None:
    for name in names:
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"launch.{name} must be >= 1, got {value}.")


def _seconds(time: str) -> int:
    """Of a SLURM time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    days, dash, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return int(days or 0) * 86_400 + sum(part * unit for part, unit in zip(parts, units, strict=False))
