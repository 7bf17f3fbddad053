"""The devices that a run would compute on: those that are here, or those of a topology that is only named."""

import dataclasses
import math
import os

from experiments.accelerators import Accelerator, accelerator_of, chips_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """Some devices of one kind."""

    devices: int
    kind: str
    """As jax calls it."""
    platform: str
    """cpu, gpu or tpu."""
    chip: Accelerator | None = None
    """What is published of it; None where nothing is known."""
    memory_bytes: float = math.inf
    """What a program can use on each device."""

    def line(self) -> str:
        """Number, kind and memory."""
        each = "" if math.isinf(self.memory_bytes) else f" ({self.memory_bytes / 2**30:,.2f} GiB each)"
        return f"{self.devices:,} x {self.kind}{each}"


def here() -> Hardware:
    """The devices that jax has on all hosts of this run. All processes must ask: memory is what process 0 has."""
    import jax

    from lingshu_jax.parallel.distributed import lead

    device = jax.local_devices()[0]  # others do not tell their memory
    platform = "tpu" if device.platform == "tpu" else "cpu" if device.platform == "cpu" else "gpu"
    chip, stats = accelerator_of(device.device_kind), device.memory_stats() or {}
    if platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()
    else:
        memory = stats.get("bytes_limit") or (chip.memory_bytes if chip else math.inf)
    # The choice of a mesh depends on it, and must be the same everywhere.
    memory = lead("memory", lambda bytes_here=float(memory): bytes_here)
    return Hardware(
        devices=jax.device_count(), kind=device.device_kind, platform=platform, chip=chip, memory_bytes=memory
    )


def named(topology: str) -> Hardware:
    """The chips of a topology: v5e:16x16, h100:8.

    Raises:
        InputError: it cannot be read.
    """
    chip, devices = chips_of(topology)
    platform = "tpu" if chip.torus_axes > 1 else "gpu"
    return Hardware(devices=devices, kind=chip.name, platform=platform, chip=chip, memory_bytes=chip.memory_bytes)
