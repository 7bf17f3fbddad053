"""The mesh for a number of devices and a model: chosen where the user leaves it open, explained where it cannot be."""

import dataclasses
import math
from collections.abc import Iterator

from lingshu_jax.parallel.config import MeshConfig

STATE_SHARE = 0.25
"""Parameters, average, moments and gradients may take this share of a device's memory; the rest is for activations."""
BYTES_PER_WEIGHT = 20
"""Parameter, average, two moments and gradient, fp32."""

Sizes = tuple[int, int, int]
"""data, fsdp, tensor"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demands:
    """What a mesh must divide, and how much it must hold."""

    batch_size: int
    """Cells of the global batch."""
    microbatches: int = 1
    """Parts of it that are computed one after another."""
    heads: int
    width: int
    ffn_width: int
    weights: int = 0
    """Number of parameters."""
    device_bytes: float = math.inf
    """Memory of one device."""

    def problems(self, sizes: Sizes) -> list[str]:
        """Why a mesh of these sizes cannot be, in words; nothing where it can."""
        data, fsdp, tensor = sizes
        found = []
        if self.batch_size % (data * fsdp * self.microbatches):
            parts = f" of each of {self.microbatches} microbatches" if self.microbatches > 1 else ""
            found.append(
                f"training.batch_size {self.batch_size} does not divide over data * fsdp = {data * fsdp}{parts}"
            )
        if self.width % fsdp:
            found.append(f"model.width {self.width} does not divide over fsdp = {fsdp}")
        if self.heads % tensor:
            found.append(f"model.heads {self.heads} do not divide over tensor = {tensor}")
        if self.ffn_width % tensor:
            found.append(f"model.ffn_width {self.ffn_width} does not divide over tensor = {tensor}")
        return found

    def roomy(self, sizes: Sizes) -> bool:
        """Does the state leave most of a device's memory to activations?"""
        return BYTES_PER_WEIGHT * self.weights / (sizes[1] * sizes[2]) <= STATE_SHARE * self.device_bytes


def choose_mesh(config: MeshConfig, demands: Demands, devices: int) -> MeshConfig:
    """Settle every axis; sizes that are set are kept.

    As little tensor as the batch allows, since it exchanges activations in every layer; then as little fsdp as lets the
    state take a quarter of a device's memory, since it collects the weights in every step; the rest is data.

    Raises:
        ValueError: the sizes that are set, or all, are impossible; says why, and names the nearest that are not.
    """
    possible = [sizes for sizes in _arrangements(devices) if not demands.problems(sizes)]
    asked = [sizes for sizes in possible if _keeps(sizes, config)]
    if not asked:
        raise ValueError(_explain(config, demands, devices, possible))
    data, fsdp, tensor = min(asked, key=lambda sizes: (sizes[2], not demands.roomy(sizes), _preference(sizes, demands)))
    return MeshConfig(data=data, fsdp=fsdp, tensor=tensor)


def _preference(sizes: Sizes, demands: Demands) -> int:
    """As little fsdp as is roomy; where none is, as much as there can be."""
    return sizes[1] if demands.roomy(sizes) else -sizes[1]


def _keeps(sizes: Sizes, config: MeshConfig) -> bool:
    return all(wanted in (None, size) for wanted, size in zip(config.sizes, sizes, strict=True))


def _arrangements(devices: int) -> Iterator[Sizes]:
    for tensor in _divisors(devices):
        for fsdp in _divisors(devices // tensor):
            yield devices // tensor // fsdp, fsdp, tensor


def _divisors(number: int) -> list[int]:
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def _explain(config: MeshConfig, demands: Demands, devices: int, possible: list[Sizes]) -> str:
    fixed = [size for size in config.sizes if size is not None]
    settings = zip(("data", "fsdp", "tensor"), config.sizes, strict=True)
    named = ", ".join(f"mesh.{name} {size}" for name, size in settings if size is not None)
    whole, none_open = math.prod(fixed), None not in config.sizes
    if devices % whole or (none_open and whole != devices):
        reason = f"{named} need {'' if none_open else 'a multiple of '}{whole} devices, there are {devices}"
    else:
        # Of the meshes that keep what is set, the one with the least against it says why none of them works.
        kept = [demands.problems(sizes) for sizes in _arrangements(devices) if _keeps(sizes, config)]
        reason = "; ".join(min(kept, key=len))
        reason = f"{named or 'no mesh'} on {devices} devices: {reason}" if named else f"on {devices} devices {reason}"
    return f"impossible mesh: {reason}. {_way_out(config, demands, devices, possible)}"


def _way_out(config: MeshConfig, demands: Demands, devices: int, possible: list[Sizes]) -> str:
    if possible:
        near = sorted(possible, key=lambda sizes: _distance(sizes, config))[:3]
        shown = "; ".join(f"--mesh.data {d} --mesh.fsdp {f} --mesh.tensor {t}" for d, f, t in near)
        return f"Nearest: {shown}."
    most = min(devices, demands.batch_size * demands.heads)
    fewer = next(n for n in range(most, 0, -1) if any(not demands.problems(s) for s in _arrangements(n)))
    batch = min(_larger_batch(sizes, demands) for sizes in _arrangements(devices) if _fits_model(sizes, demands))
    return f"Use {fewer} devices, or --training.batch-size {batch} (another experiment: see docs/training.md)."


def _fits_model(sizes: Sizes, demands: Demands) -> bool:
    _, fsdp, tensor = sizes
    return not (demands.width % fsdp or demands.heads % tensor or demands.ffn_width % tensor)


def _larger_batch(sizes: Sizes, demands: Demands) -> int:
    """The next batch that divides over a mesh, its microbatches and the loader's slabs."""
    unit = math.lcm(32, sizes[0] * sizes[1] * demands.microbatches)
    return (demands.batch_size // unit + 1) * unit


def _distance(sizes: Sizes, config: MeshConfig) -> tuple[float, Sizes]:
    off = sum(
        abs(math.log(size / wanted)) for size, wanted in zip(sizes, config.sizes, strict=True) if wanted is not None
    )
    return off, (sizes[2], sizes[1], sizes[0])
