"""What `lingshu train EXPERIMENT --dry-run` prints: mesh, shardings, weights, FLOPs and memory; no array is made."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from experiments.blueprint import Blueprint, abstract_mesh
from experiments.hardware import Hardware
from experiments.memory import estimate_memory
from lingshu_jax.model import KeepInputs
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.inherit import is_frozen

FEWEST_CELLS = 8
"""Cells per chip below which what chips send each other takes a growing share of a step."""


def describe(blueprint: Blueprint, hardware: Hardware) -> str:
    """Everything that is known before a run starts.

    Raises:
        InputError: the mesh that is set is impossible on this hardware.
    """
    mesh = blueprint.mesh(hardware)
    lines = [*_model(blueprint), *_mesh(blueprint, hardware, mesh), *_parameters(blueprint, mesh)]
    lines += [*_step(blueprint, hardware), *_memory(blueprint, hardware, mesh), *_warnings(blueprint, mesh)]
    return "\n".join(lines)


def _model(blueprint: Blueprint) -> Iterator[str]:
    experiment, genes = blueprint.experiment, blueprint.cells.genes
    yield (
        f"experiment {experiment.name}: {genes:,} genes in {blueprint.layout.patches:,} patch positions of "
        f"{experiment.model.genes_per_patch} genes, width {experiment.model.width}"
    )
    yield f"{experiment.training.steps:,} steps of {experiment.training.batch_size} cells"


def _mesh(blueprint: Blueprint, hardware: Hardware, mesh: MeshConfig) -> Iterator[str]:
    sizes = zip(("data", "fsdp", "tensor"), mesh.sizes, blueprint.experiment.mesh.sizes, strict=True)
    named = ", ".join(f"{name} {size}{' (set)' if wanted else ''}" for name, size, wanted in sizes)
    yield f"mesh on {hardware.line()}: {named}"


def _parameters(blueprint: Blueprint, mesh: MeshConfig) -> Iterator[str]:
    yield ""
    yield f"  {'parameters':<36} {'weights':>13} {'on a device':>13}  sharding"
    params = blueprint.state(abstract_mesh(mesh)).params
    total = held = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        weights, here = math.prod(leaf.shape), math.prod(leaf.sharding.shard_shape(leaf.shape))
        total, held = total + weights, held + here
        frozen = ", frozen" if is_frozen(_name(path), blueprint.experiment.init.freeze) else ""
        yield f"  {_name(path):<36} {weights:>13,} {here:>13,}  {_sharding(leaf.sharding.spec)}{frozen}"
    yield f"  {'total':<36} {total:>13,} {held:>13,}  {total / 1e6:.1f} M"


def _step(blueprint: Blueprint, hardware: Hardware) -> Iterator[str]:
    devices, cells = hardware.devices, blueprint.experiment.training.batch_size
    flops = blueprint.flops(hardware)
    yield ""
    yield (
        f"a step: {_cells(cells / devices)} per device; {flops.naive / 1e12:.2f} TFLOP as the paper writes it, "
        f"{flops.executed / 1e12:.2f} executed, {flops.executed / devices / 1e12:.3f} of them per device"
    )
    if hardware.chip is not None:
        best = flops.naive / devices / hardware.chip.peak_flops
        yield f"at 40 % MFU of {hardware.chip.name}: {best / 0.4:.3g} s per step, {cells * 0.4 / best:,.0f} cells/s"


def _memory(blueprint: Blueprint, hardware: Hardware, mesh: MeshConfig) -> Iterator[str]:
    memory = estimate_memory(blueprint, mesh, hardware.platform)
    yield ""
    yield "memory of a device, estimated:"
    for name, size in memory.parts.items():
        yield f"  {name:<36} {size / 2**30:>9.3f} GiB"
    of = "" if math.isinf(hardware.memory_bytes) else f" of {hardware.memory_bytes / 2**30:.2f}"
    yield f"  {'total':<36} {memory.total / 2**30:>9.3f} GiB{of}"
    if memory.total > hardware.memory_bytes:
        yield f"warning: this does not fit. {_ways_to_fit(blueprint, mesh)}"


def _ways_to_fit(blueprint: Blueprint, mesh: MeshConfig) -> str:
    config, (data, fsdp, _) = blueprint.experiment.training, (size or 1 for size in mesh.sizes)
    ways = ["use more devices"]
    if data > 1:
        ways.append(f"share the weights among them (--mesh.fsdp {2 * fsdp})")
    if config.batch_size // (config.microbatches * data * fsdp) > 1:
        ways.append(f"take a step in more parts (--training.microbatches {2 * config.microbatches})")
    if not isinstance(blueprint.experiment.model.remat, KeepInputs):
        ways.append("keep less for the backward pass (--model.remat keep-inputs)")
    text = ", ".join(ways[:-1]) + (", or " if ways[:-1] else "") + ways[-1]
    return f"{text[0].upper()}{text[1:]}."


def _warnings(blueprint: Blueprint, mesh: MeshConfig) -> Iterator[str]:
    experiment = blueprint.experiment
    batch, (data, fsdp, tensor) = experiment.training.batch_size, (size or 1 for size in mesh.sizes)
    devices = data * fsdp * tensor
    if batch >= FEWEST_CELLS * devices:
        return
    model, rate = experiment.model, experiment.optimizer.learning_rate
    larger = FEWEST_CELLS * devices
    yield ""
    yield (
        f"warning: {_cells(batch / devices)} per chip; below {FEWEST_CELLS} a growing share of a step goes to what "
        f"chips send each other. The batch of {batch} is part of the experiment and does not follow the devices. "
        "Choose:"
    )
    if batch >= FEWEST_CELLS:
        yield f"  - fewer chips: {max(1, batch // FEWEST_CELLS)} have {FEWEST_CELLS} cells each"
    yield (
        f"  - a larger batch, another experiment: --training.batch-size {larger} --optimizer.learning-rate "
        f"{rate * math.sqrt(larger / batch):.2g} (square-root rule: Adam divides by the gradient's size, so what a "
        "batch changes is the noise, and that falls with its square root)"
    )
    common = math.gcd(model.heads, model.ffn_width)
    splits = [size for size in range(tensor + 1, common + 1) if common % size == 0 and devices % size == 0]
    if splits:
        size = splits[0]
        yield (
            f"  - sequence sharding: --mesh.tensor {size} gives each group of {size} chips "
            f"{_cells(batch * size / devices)}, and shares their heads, feed-forward width and positions; it saves "
            "memory and allows more chips than cells, and sends 15 to 20 times as much: no step becomes faster by it"
        )


def _cells(number: float) -> str:
    return f"{number:g} cell{'' if number == 1 else 's'}"


def _name(path: Any) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path if _is_name(key))


def _is_name(key: Any) -> bool:
    return isinstance(key, jax.tree_util.DictKey)


def _sharding(spec: Any) -> str:
    axes = [", ".join(axis) if isinstance(axis, tuple) else axis for axis in spec]
    return "(" + ", ".join(axis or "-" for axis in axes) + ")" if any(axes) else "on every device"
