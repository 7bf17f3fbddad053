"""Strong and weak scaling of the paper's models from 1 to 1,024 chips, computed: the tables of docs/scaling.md.

    python -m experiments.scaling > tables.md

Nothing is compiled or run. Memory is the estimate of `--dry-run`; FLOPs are counted (`experiments.flops`); bytes follow
from the mesh as in the programs that `make check-tpu` compiles; time is products at an assumed share of the peak, then
sending at published rates along one axis of the torus, without overlap.
"""

import dataclasses
from collections.abc import Iterator

from data_pipelines.errors import InputError
from experiments.blueprint import Blueprint, Cells
from experiments.configs import load_experiment
from experiments.flops import step_flops
from experiments.hardware import Hardware, named
from experiments.memory import estimate_memory
from lingshu_jax.parallel.config import MeshConfig

COLUMNS = (
    "chips", "mesh", "cells per chip", "GiB per chip", "TFLOP per chip", "MiB sent", "ms", "sending", "cells/s",
    "of ideal",
)  # fmt: skip
EXPERIMENTS = ("paper-s32", "paper-s8")
CHIPS = ("v5e", "v5p", "v6e")
NUMBERS = (1, 4, 16, 64, 256, 512, 1024)
STRONG_BATCH = 256
CELLS_PER_CHIP = 16
ASSUMED_UTILISATION = 0.4
"""Share of the peak that products are assumed to reach; measured on no TPU yet."""
_STREAMS_EXCHANGED = {True: 11.0, False: 10.0}
"""Per block and (t - 1) / t: arrays (B, N, D) that a chip sends over tensor, with positions in shards and whole."""


@dataclasses.dataclass(frozen=True)
class Projection:
    """One step on one number of chips."""

    mesh: MeshConfig
    batch: int
    memory: float
    flops: float
    """Executed on each chip."""
    sent: float
    """Bytes that each chip sends."""
    hardware: Hardware

    @property
    def computing(self) -> float:
        """Seconds."""
        assert self.hardware.chip is not None
        return self.flops / (ASSUMED_UTILISATION * self.hardware.chip.peak_flops)

    @property
    def sending(self) -> float:
        """Seconds."""
        assert self.hardware.chip is not None
        return self.sent / self.hardware.chip.ring_bytes

    @property
    def cells_per_second(self) -> float:
        return self.batch / (self.computing + self.sending)


def project(name: str, hardware: Hardware, batch: int) -> Projection:
    """A training step of an experiment.

    Raises:
        InputError: no mesh can be made of the devices for this batch.
    """
    blueprint = Blueprint(load_experiment(name), Cells(), batch)
    mesh = blueprint.mesh(hardware)
    return Projection(
        mesh,
        batch,
        estimate_memory(blueprint, mesh, hardware.platform).total,
        flops_of_chip(blueprint, mesh),
        bytes_sent(blueprint, mesh),
        hardware,
    )


def flops_of_chip(blueprint: Blueprint, mesh: MeshConfig) -> float:
    """What one chip executes in a step: chips along tensor share the blocks, and repeat the gene layers."""
    model, (data, fsdp, tensor) = blueprint.experiment.model, _sizes(mesh)
    cells = blueprint.batch // (data * fsdp)
    step = step_flops(model, genes=blueprint.cells.genes, cells=cells, one_hot=True)
    return step.executed - step.executed_blocks * (1 - 1 / tensor)


def bytes_sent(blueprint: Blueprint, mesh: MeshConfig) -> float:
    """What one chip sends in a step, in rings: gradients over data, weights and gradients over fsdp, activations over
    tensor."""
    model, (data, fsdp, tensor) = blueprint.experiment.model, _sizes(mesh)
    item = 2 if model.dtype == "bfloat16" else 4
    blocks = item * blueprint.weights["blocks"] / tensor
    tables = item * model.genes_per_patch * (284 + model.corrected_tokens) * model.width
    rows = 4 * (blueprint.weights["condition_tokens"] + blueprint.weights["patch_embedding"])
    ranks = data * fsdp
    sent = 2 * (tables + rows) * (ranks - 1) / ranks + 2 * blocks / fsdp * (data - 1) / data
    # Gathered for the forward and the backward pass, and the gradient's way back.
    sent += 3 * blocks * (fsdp - 1) / fsdp
    if tensor > 1:
        positions = blueprint.layout.patches + len(blueprint.vocabulary.fields)
        stream = item * blueprint.batch / ranks * positions * model.width
        sent += model.blocks * _STREAMS_EXCHANGED[positions % tensor == 0] * stream * (tensor - 1) / tensor
    return sent


def _sizes(mesh: MeshConfig) -> tuple[int, int, int]:
    return mesh.data or 1, mesh.fsdp or 1, mesh.tensor or 1


def tables() -> Iterator[str]:
    """The lines of all tables."""
    for title, batch_of in (
        (f"Strong scaling: {STRONG_BATCH} cells per step", lambda chips: STRONG_BATCH),
        (f"Weak scaling: {CELLS_PER_CHIP} cells per chip", lambda chips: CELLS_PER_CHIP * chips),
    ):
        yield f"### {title}"
        for name in EXPERIMENTS:
            for chip in CHIPS:
                yield ""
                yield f"{name} on {chip}"
                yield ""
                yield f"| {' | '.join(COLUMNS)} |"
                yield "|" + "---|" * len(COLUMNS)
                first: Projection | None = None
                for chips in NUMBERS:
                    hardware = dataclasses.replace(named(f"{chip}:1"), devices=chips)
                    try:
                        one = project(name, hardware, batch_of(chips))
                    except InputError as error:
                        yield f"| {chips:,} | {_reason(error)} | | | | | | | | |"
                        continue
                    first = first or one
                    yield _row(chips, one, first)
        yield ""


def _row(chips: int, one: Projection, first: Projection) -> str:
    data, fsdp, tensor = _sizes(one.mesh)
    seconds = one.computing + one.sending
    fits = "" if one.memory <= one.hardware.memory_bytes else " (too much)"
    ideal = first.cells_per_second * chips
    return (
        f"| {chips:,} | {data} x {fsdp} x {tensor} | {one.batch / chips:g} | {one.memory / 2**30:.2f}{fits} | "
        f"{one.flops / 1e12:.2f} | {one.sent / 2**20:,.0f} | {seconds * 1e3:,.0f} | {one.sending / seconds:.1%} | "
        f"{one.cells_per_second:,.0f} | {one.cells_per_second / ideal:.0%} |"
    )


def _reason(error: InputError) -> str:
    return str(error).removeprefix("impossible mesh: ").split(". ")[0]


if __name__ == "__main__":
    print("\n".join(tables()))
