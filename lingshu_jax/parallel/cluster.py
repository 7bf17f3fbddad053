"""Which process of how many this is: from settings, or from what SLURM, GKE or Cloud TPU put into the environment."""

import dataclasses
from collections.abc import Mapping

from lingshu_jax.parallel.config import DistributedConfig


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
        if not host or not port.isdigit():
            raise ValueError(
                f"the coordinator must be HOST:PORT, got {self.coordinator!r}. See --distributed.coordinator."
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
    asked = config.coordinator or config.processes or config.process is not None or given["coordinator"]
    if asked and not config.detect:
        missing = [name for name, value in given.items() if value is None]
        if missing:
            options = ", ".join(f"--distributed.{name}" for name in missing)
            raise ValueError(f"several processes were asked for, but {options} is missing.")
        return Place(**given) if given["processes"] > 1 else None
    return _detected(config) if config.detect or _seen(environment) else None


def _seen(environment: Mapping[str, str]) -> bool:
    """Whether this process was started as one of several, by srun or as a worker of a TPU slice on GKE."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    slices = environment.get("MEGASCALE_NUM_SLICES", "1")
    return tasks not in ("", "1") or slices not in ("", "1") or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def _detected(config: DistributedConfig) -> Place | None:
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize() asks itself

    address, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, config.start_seconds
    )
    if address is None or processes is None or process is None:
        raise ValueError(
            "jax knows no cluster here. Pass --distributed.coordinator HOST:PORT, --distributed.processes N and "
            "--distributed.process I."
        )
    return Place(address, processes, process, None if devices is None else tuple(devices)) if processes > 1 else None


def _number(setting: int | None, environment: Mapping[str, str], *names: str) -> int | None:
    if setting is not None:
        return setting
    for name in names:
        if text := environment.get(name):
            if not text.isdigit():
                raise ValueError(f"{name} must be a number, got {text!r}.")
            return int(text)
    return None
