"""Floating-point operations of a denoiser's training step, by the paper's formulation and as they are executed here."""

import dataclasses

from lingshu_jax.model.config import DenoiserConfig, KeepInputs
from lingshu_jax.tokens import INPUT_VOCAB_SIZE, VOCAB_SIZE

# G genes, P patches, S genes per patch, N positions, D width, V output tokens; a product of (m, k) and (k, n) is 2mkn


@dataclasses.dataclass(frozen=True)
class StepFlops:
    """Of one training step of some cells."""

    naive: float
    """Forward and backward (three times the forward) of every gene through W_down, W_up and head."""
    executed: float
    """What the fused gene layers and the rematerialised blocks compute."""
    blocks: float = 0.0
    """Share of the naive count that the blocks have: the part that both formulations need."""
    executed_blocks: float = 0.0
    """Share of the executed count that the blocks have: theirs, and what is computed again in the backward pass."""


def step_flops(
    model: DenoiserConfig, *, genes: int, cells: int, conditions: int = 2, one_hot: bool = False
) -> StepFlops:
    """Count one training step.

    Args:
        model: the architecture.
        genes: panel size.
        cells: cells of the step.
        conditions: condition tokens.
        one_hot: whether the token table is applied as products with indicators (TPU), not as a gather.
    """
    slots, width = model.genes_per_patch, model.width
    patches = -(-genes // slots)
    places, positions = patches * slots, patches + conditions
    layers = 8 * positions * width**2 + 6 * positions * width * model.ffn_width + 4 * positions**2 * width
    blocks = model.blocks * layers
    gene_layers = 2 * places * width * (2 * width + VOCAB_SIZE)
    tables = 2 * slots * width**2 * (INPUT_VOCAB_SIZE + model.corrected_tokens)  # once per step, not per cell
    fused = 2 * places * width * (model.corrected_tokens + (INPUT_VOCAB_SIZE if one_hot else 0))
    again = 1 if isinstance(model.remat, KeepInputs) else 0
    return StepFlops(
        naive=3.0 * cells * (blocks + gene_layers),
        executed=cells * ((3.0 + again) * blocks + 3.0 * fused) + 3.0 * tables,
        blocks=3.0 * cells * blocks,
        executed_blocks=cells * (3.0 + again) * blocks,
    )
