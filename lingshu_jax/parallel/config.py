"""Mesh settings, importable without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How the devices are arranged; what is left out is chosen. The global batch does not depend on it."""

    data: int | None = None
    """Copies of the model, each with its own rows of the batch."""
    fsdp: int | None = None
    """Devices that share one copy of parameters and optimizer state, each with its own rows of the batch."""
    tensor: int | None = None
    """Devices that share heads, feed-forward width and positions of the same rows; must divide the first two."""

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"mesh.{name} must be >= 1, got {size}.")

    @property
    def sizes(self) -> tuple[int | None, int | None, int | None]:
        """(data, fsdp, tensor), None where it is left open."""
        return self.data, self.fsdp, self.tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How the processes of one run find each other. Nothing given and nothing in the environment: one process."""

    coordinator: str | None = None
    """host:port of process 0, reachable from all; also LINGSHU_COORDINATOR."""
    processes: int | None = None
    """Processes in all; also LINGSHU_PROCESSES."""
    process: int | None = None
    """Number of this process, from 0; also LINGSHU_PROCESS, or JOB_COMPLETION_INDEX (Kubernetes)."""
    detect: bool = False
    """Let jax find the other processes (Cloud TPU VMs); srun and TPU pods of GKE are found without it."""
    start_seconds: int = 300
    """How long to wait for processes that have not started."""
    heartbeat_seconds: int = 100
    """A process that is silent for so long is taken for dead, and the others stop."""

    def __post_init__(self) -> None:
        for name in ("processes", "start_seconds", "heartbeat_seconds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"distributed.{name} must be >= 1, got {value}.")
        if self.process is not None and self.process < 0:
            raise ValueError(f"distributed.process must be >= 0, got {self.process}.")
