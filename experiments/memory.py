"""Memory of one device during a training step, from shapes alone: within 20 % of what the compiler reports."""

# B cells of a device, N positions, D width, F feed-forward width, H heads, P patches, S genes per patch

import dataclasses
import functools
from typing import Any

from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.ahead_of_time import abstract_batch
from experiments.blueprint import Blueprint, abstract_mesh, bytes_of, bytes_on_device
from lingshu_jax.model.config import KeepAll, KeepInputs, KeepProducts
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import BATCH_AXES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a platform's compiler keeps beside the results of the formulas: fitted to compiled programs, not derived."""

    gradients: float
    """Parameter-sized fp32 arrays at the peak: gradients, and part of the updates."""
    hidden: float
    """Arrays (B, N, F) of the block whose gradient is being computed."""
    stream: float
    """Arrays (B, N, D) of it."""
    scores: float
    """fp32 arrays (B, H, 256, N) of attention without a kernel."""
    per_gene: float
    """fp32 arrays (B, P, S) of tokens, masks, weights and tilts."""
    compute_bytes: int | None = None
    """Bytes of an element of the block's arrays; None: of the compute type."""


CPU = Workspace(gradients=1.2, hidden=3.5, stream=0.0, scores=2.4, per_gene=15.0, compute_bytes=4)
ACCELERATOR = Workspace(gradients=1.0, hidden=6.0, stream=15.0, scores=0.0, per_gene=10.0)
QUERIES_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device by what they hold."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def estimate_memory(blueprint: Blueprint, mesh: MeshConfig, platform: str) -> Memory:
    """Arrays between steps exactly, by their shardings; those within a step by the formulas below."""
    model, shape = blueprint.experiment.model, abstract_mesh(mesh)
    workspace = CPU if platform == "cpu" else ACCELERATOR
    state = blueprint.state(shape)
    parameters = bytes_on_device(state.params)
    batch = blueprint.experiment.training.batch_size
    rows = NamedSharding(shape, P(BATCH_AXES))
    cells = batch / ((mesh.data or 1) * (mesh.fsdp or 1))
    positions = blueprint.layout.patches + len(blueprint.vocabulary.fields) + 1
    tensor, item = mesh.tensor or 1, 2 if model.dtype == "bfloat16" else 4
    inner = (workspace.compute_bytes or item) * cells * positions
    scores = 4 * cells * min(QUERIES_AT_ONCE, positions) * positions * model.heads / tensor
    kept = kept_elements(model.remat, width=model.width, ffn_width=model.ffn_width / tensor)
    genes = 4 * cells * blueprint.layout.patches * model.genes_per_patch
    return Memory(
        {
            "parameters": parameters,
            "moving average": bytes_on_device(state.ema),
            "optimizer": bytes_on_device(state.opt_state),
            "fixed arrays": bytes_of(blueprint.fixed) + blueprint.cells.sources * blueprint.cells.genes,
            "batch": bytes_on_device(abstract_batch(blueprint, batch, rows)),
            "gradients and updates": workspace.gradients * parameters,
            f"activations kept ({type(model.remat).__name__})": model.blocks * item * cells * positions * kept,
            "block being differentiated": inner
            * (workspace.hidden * model.ffn_width / tensor + workspace.stream * model.width)
            + workspace.scores * scores,
            "gene layers": workspace.per_gene * genes + _tables(blueprint),
        }
    )


@functools.singledispatch
def kept_elements(remat: Any, *, width: float, ffn_width: float) -> float:
    """Elements that the backward pass keeps of one block per position."""
    raise TypeError(f"no memory formula for {type(remat).__name__}.")


@kept_elements.register
def _(remat: KeepInputs, *, width: float, ffn_width: float) -> float:
    return width


@kept_elements.register
def _(remat: KeepProducts, *, width: float, ffn_width: float) -> float:
    return 6 * width + 2 * ffn_width


@kept_elements.register
def _(remat: KeepAll, *, width: float, ffn_width: float) -> float:
    return 14 * width + 6 * ffn_width


def _tables(blueprint: Blueprint) -> float:
    """Token table and head matrix with their gradients, fp32 and as they are computed with."""
    model = blueprint.experiment.model
    rows = 284 + model.corrected_tokens
    return 2 * 6 * model.genes_per_patch * rows * model.width
