"""Memory of one device during a training step, from shapes alone: within 20 % of what the compiler reports."""

# B cells of a device, N positions, D width, F feed-forward width, H heads, P patches, S genes per patch

import dataclasses
import functools
from typing import Any

from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.ahead_of_time import abstract_batch
from experiments.blueprint import Blueprint, abstract_mesh, bytes_of, bytes_on_device
from lingshu_jax.model.config import KeepAll, KeepInputs, KeepProducts, LogFrequency, NoBias
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import BATCH_AXES
from lingshu_jax.tokens import INPUT_VOCAB_SIZE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a platform's compiler keeps within a step, in arrays of some shape: fitted to compiled programs."""

    gradients: float
    """Parameter-sized fp32 arrays at the peak: gradients, weights in the compute type, updates."""
    kept_inputs: float
    """`KeepInputs`, per block: arrays (B, N, D) of the compute type."""
    kept_products: float
    """`KeepProducts`, per block: times the products themselves."""
    kept_stream: float
    """`KeepAll`, per block: arrays (B, N, D)."""
    kept_hidden: float
    """`KeepAll`, per block: arrays (B, N, F)."""
    block_stream: float
    """Of the one block that is computed again: arrays (B, N, D)."""
    block_hidden: float
    """Of the one block that is computed again: arrays (B, N, F)."""
    scores: float
    """fp32 scores (B, H, 256, N) of attention without a kernel."""
    per_gene: float
    """fp32 arrays (B, P, S) of tokens, masks, weights and tilts."""
    tables: float
    """fp32 copies of the token table and the head's matrix."""
    on_chip: float = 0.0
    """Bytes of the block that is computed again which stay in memory on the chip."""


CPU = Workspace(
    gradients=1.05, kept_inputs=0.8, kept_products=0.9, kept_stream=22.0, kept_hidden=4.8, block_stream=23.0,
    block_hidden=1.9, scores=3.2, per_gene=21.5, tables=1.8,
)  # fmt: skip
TPU = Workspace(
    gradients=1.8, kept_inputs=1.0, kept_products=1.25, kept_stream=21.0, kept_hidden=6.0, block_stream=16.5,
    block_hidden=6.6, scores=0.0, per_gene=10.0, tables=1.0, on_chip=128 * 2**20,
)  # fmt: skip
GPU = dataclasses.replace(TPU, on_chip=0.0)
"""Taken from TPU, and checked on none."""
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
    workspace = {"cpu": CPU, "tpu": TPU, "gpu": GPU}[platform]
    state = blueprint.state(shape)
    parameters = bytes_on_device(state.params)
    batch = blueprint.batch
    rows = NamedSharding(shape, P(BATCH_AXES))
    cells = batch / blueprint.experiment.training.microbatches / ((mesh.data or 1) * (mesh.fsdp or 1))
    genes = 4 * cells * blueprint.layout.patches * model.genes_per_patch
    block = _Block.of(blueprint, cells, mesh.tensor or 1)
    return Memory(
        {
            "parameters": parameters,
            "moving average": bytes_on_device(state.ema),
            "optimizer": bytes_on_device(state.opt_state),
            "fixed arrays": bytes_of(blueprint.fixed) + blueprint.cells.masks * blueprint.cells.genes,
            "batch": bytes_on_device(abstract_batch(blueprint, batch, rows)),
            "gradients, updates": workspace.gradients * parameters,
            f"activations kept ({type(model.remat).__name__})": model.blocks * kept(model.remat, block, workspace),
            "block computed again": again(model.remat, block, workspace),
            "attention scores": workspace.scores * block.scores,
            "gene layers": workspace.per_gene * genes + workspace.tables * _tables(blueprint),
        }
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """Bytes of the arrays of one block on one device."""

    whole_stream: float
    """(B, N, D) in the compute type, positions not shared."""
    stream: float
    """The same with its positions over tensor, where they divide."""
    hidden: float
    """(B, N, F)."""
    scores: float

    @classmethod
    def of(cls, blueprint: Blueprint, cells: float, tensor: int) -> "_Block":
        model = blueprint.experiment.model
        summary = not isinstance(model.start, NoBias | LogFrequency)
        positions = blueprint.layout.patches + len(blueprint.vocabulary.fields) + summary
        item = 2 if model.dtype == "bfloat16" else 4
        stream = item * cells * positions * model.width
        chunk = -(-positions // -(-positions // QUERIES_AT_ONCE))
        return cls(
            whole_stream=stream,
            stream=stream / (tensor if positions % tensor == 0 else 1),
            hidden=item * cells * positions * model.ffn_width / tensor,
            scores=4 * cells * chunk * positions * model.heads / tensor,
        )


@functools.singledispatch
def kept(remat: Any, block: _Block, workspace: Workspace) -> float:
    """Bytes that the backward pass keeps of one block."""
    raise TypeError(f"no memory formula for {type(remat).__name__}.")


@kept.register
def _(remat: KeepInputs, block: _Block, workspace: Workspace) -> float:
    return workspace.kept_inputs * block.stream


@kept.register
def _(remat: KeepProducts, block: _Block, workspace: Workspace) -> float:
    return workspace.kept_products * (6 * block.stream + 2 * block.hidden)


@kept.register
def _(remat: KeepAll, block: _Block, workspace: Workspace) -> float:
    return workspace.kept_stream * block.stream + workspace.kept_hidden * block.hidden


def again(remat: Any, block: _Block, workspace: Workspace) -> float:
    """Bytes of the block that the backward pass computes again; nothing where all is kept."""
    if isinstance(remat, KeepAll):
        return 0.0
    # Queries, keys and values are shared by heads; their inputs stand whole beside them.
    stream = (block.whole_stream + block.stream) / 2
    arrays = workspace.block_stream * stream + workspace.block_hidden * block.hidden
    return max(0.0, arrays - workspace.on_chip)


def _tables(blueprint: Blueprint) -> float:
    """fp32 bytes of the token table and the head's matrix."""
    model = blueprint.experiment.model
    return 4 * model.genes_per_patch * (INPUT_VOCAB_SIZE + 1 + model.corrected_tokens) * model.width
