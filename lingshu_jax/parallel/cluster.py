"""Which process of how many this is: from settings, or from what SLURM, GKE or Cloud TPU put into the environment."""

import dataclasses
from collections.abc import Mapping

from lingshu_jax.parallel.config import DistributedConfig

_LAST_PORT = 2**16 - 1
_OURS = ("LINGSHU_COORDINATOR", "LINGSHU_PROCESSES", "LINGSHU_PROCESS")
"""Who sets any of these means several processes; alone, each would train for itself."""
_STARTED = ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES", "MEGASCALE_NUM_SLICES")
"""What srun and GKE tell each of several processes."""


@dataclasses.dataclass(frozen=True)
class Place:
    """One process of a run."""

    coordinator: str
    """host:port of process 0."""
    processes: int
    process: int
    devices: tuple[int, ...] | None = None
    """Devices of this machine that it takes; None takes all."""

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or "/" in host or not _is_number(port) or not 1 <= int(port) <= _LAST_PORT:
            raise ValueError(
                f"the coordinator must be HOST:PORT, PORT in 1..{_LAST_PORT}, got {self.coordinator!r}. See "
                f"--distributed.coordinator."
            )
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"process {self.process} is none of {self.processes} processes, which are 0 to {self.processes - 1}. "
                f"See --distributed.process and --distributed.processes."
            )


def find_place(config: DistributedConfig, environment: Mapping[str, str]) -> Place | None:
    """This process's place, None for a run of one process. Imports jax only where it has to ask it.

    Raises:
        ValueError: what is given is not enough, or does not fit together.
    """
    given = {
        "coordinator": config.coordinator or environment.get("LINGSHU_COORDINATOR"),
        "processes": _number(config.processes, environment, "LINGSHU_PROCESSES"),
        "process": _number(config.process, environment, "LINGSHU_PROCESS", "JOB_COMPLETION_INDEX"),
    }
    asked = config.coordinator or config.processes or config.process is not None or any(map(environment.get, _OURS))
    if asked and not config.detect:
        if given["processes"] == 1 and not given["process"]:
            return None
        missing = [name for name, value in given.items() if value is None]
        if missing:
            options = ", ".join(f"--distributed.{name} (LINGSHU_{name.upper()})" for name in missing)
            are = "is" if len(missing) == 1 else "are"
            raise ValueError(f"several processes were asked for, but {options} {are} missing.")
        return Place(**given)
    seen = _seen(environment)
    return _detected(config, seen) if config.detect or seen else None


def _seen(environment: Mapping[str, str]) -> str | None:
    """What shows that this process was started as one of several, by srun or as a worker of a TPU slice on GKE."""
    for name in _STARTED:
        value = environment.get(name, "")
        if "," in value if name == "TPU_WORKER_HOSTNAMES" else value not in ("", "1"):
            return f"{name}={value}"
    return None


def _detected(config: DistributedConfig, seen: str | None) -> Place | None:
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize() asks itself

    address, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, config.start_seconds
    )
    if address is None or processes is None or process is None:
        why = f"{seen} says that this is one of several processes, but " if seen else ""
        raise ValueError(
            f"{why}jax knows no cluster here. Pass --distributed.coordinator HOST:PORT, --distributed.processes N and "
            f"--distributed.process I (a process that trains alone: --distributed.processes 1)."
        )
    return Place(address, processes, process, None if devices is None else tuple(devices)) if processes > 1 else None


def _number(setting: int | None, environment: Mapping[str, str], *names: str) -> int | None:
    if setting is not None:
        return setting
    for name in names:
        if text := environment.get(name):
            if not _is_number(text):
                raise ValueError(f"{name} must be a number, got {text!r}.")
            if name == "LINGSHU_PROCESSES" and not int(text):
                raise ValueError(f"{name} must be >= 1, got 0.")
            return int(text)
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
