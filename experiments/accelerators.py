"""What devices can do, by kind, as their vendors publish it; and whether this machine shows one; without jax.

TPU: Google Cloud's pages "TPU v5e", "TPU v5p", "TPU v6e" (bf16 peak, HBM, bidirectional inter-chip bandwidth per chip).
GPU: NVIDIA's data sheets (dense bf16 peak, memory, NVLink).
"""

import dataclasses
import math
import os
import pathlib
from typing import Literal

from data_pipelines.errors import InputError

Device = Literal["auto", "cpu"]
MOST_DEVICES = 1_000_000
"""More than this is a slip."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One kind of chip."""

    name: str
    """As topologies are named: v5e of v5e:16x16."""
    peak_flops: float
    """Dense bf16 products, FLOP/s."""
    memory_bytes: float
    """What a program can use of the chip's memory."""
    link_bytes: float
    """Bytes per second that a chip sends, over all links to other chips together."""
    torus_axes: int = 1
    """Dimensions of the torus that the links form; a group of chips along one of them uses its share of the links."""

    @property
    def ring_bytes(self) -> float:
        """Bytes per second that a chip sends within a group along one axis of the torus, both ways round."""
        return self.link_bytes / self.torus_axes


_GIB = 2**30
ACCELERATORS = {
    "v5 lite": Accelerator(name="v5e", peak_flops=197e12, memory_bytes=15.75 * _GIB, link_bytes=200e9, torus_axes=2),
    "v5p": Accelerator(name="v5p", peak_flops=459e12, memory_bytes=95.0 * _GIB, link_bytes=600e9, torus_axes=3),
    "v6": Accelerator(name="v6e", peak_flops=918e12, memory_bytes=31.25 * _GIB, link_bytes=400e9, torus_axes=2),
    "a100": Accelerator(name="a100", peak_flops=312e12, memory_bytes=79.0 * _GIB, link_bytes=300e9),
    "h100": Accelerator(name="h100", peak_flops=989e12, memory_bytes=79.0 * _GIB, link_bytes=450e9),
    "h200": Accelerator(name="h200", peak_flops=989e12, memory_bytes=139.0 * _GIB, link_bytes=450e9),
    "b200": Accelerator(name="b200", peak_flops=2250e12, memory_bytes=178.0 * _GIB, link_bytes=900e9),
}
"""Part of jax's `device_kind`, in lower case -> what is published of it."""


def accelerator_of(kind: str) -> Accelerator | None:
    """The accelerator that a `device_kind` or a topology's name (v5e:16x16) means; None for any other device."""
    folded = kind.lower()
    by_name = {chip.name: chip for chip in ACCELERATORS.values()}
    # jax calls the v5p "TPU v5" and the v5e "TPU v5 lite".
    if folded == "tpu v5":
        return by_name["v5p"]
    known = {**ACCELERATORS, **by_name}
    return next((chip for name, chip in known.items() if name in folded), None)


def chips_of(topology: str) -> tuple[Accelerator, int]:
    """Chip and number of chips of a topology: v5e:16x16, h100:8.

    Raises:
        InputError: the chip is unknown, or the size cannot be read.
    """
    name, _, shape = topology.partition(":")
    known = {chip.name: chip for chip in ACCELERATORS.values()}
    sizes = shape.split("x")
    if name not in known or not all(size.isdigit() and int(size) for size in sizes):
        raise InputError(
            f"--topology {topology} is none. Write CHIP:AxB or CHIP:AxBxC, CHIP one of {', '.join(known)}."
        )
    chips = math.prod(map(int, sizes))
    if chips > MOST_DEVICES:
        raise InputError(f"--topology {topology} has more than {MOST_DEVICES:,} chips.")
    return known[name], chips


def accelerator_visible() -> bool:
    """Does this machine show a GPU or a TPU, by device file or environment? (Asked without importing jax.)"""
    files = any(any(pathlib.Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "accel[0-9]*"))
    return files or any(os.environ.get(name) for name in ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_NAME"))


def use_device(device: Device) -> None:
    """Start jax on the device that was asked for.

    Raises:
        InputError: this machine shows an accelerator and jax has none, and nobody asked for the CPU.
    """
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif os.environ.get("JAX_PLATFORMS") != "cpu" and accelerator_visible() and jax.default_backend() == "cpu":
        raise InputError(
            "this machine shows an accelerator, and jax has none. Install for it (make install ACCEL=cuda or "
            "ACCEL=tpu; see that the driver works), or pass --device cpu."
        )
