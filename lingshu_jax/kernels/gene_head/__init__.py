"""The gene-level layers, fused: tokens to patch inputs, and patch states to per-gene logits, losses and draws.

Both pairs of linear maps (embedding and W_down, W_up and head) are multiplied together once per step, so no (B, G, D)
array exists; logits are formed one slot at a time, so no (B, G, V) array exists either.
"""

from lingshu_jax.kernels.gene_head.cross_entropy import token_nll, weighted_cross_entropy
from lingshu_jax.kernels.gene_head.draw import draw_listed, draw_token, guided_logits
from lingshu_jax.kernels.gene_head.expectation import mean_counts
from lingshu_jax.kernels.gene_head.head import GeneHead, all_logits, token_counts
from lingshu_jax.kernels.gene_head.table import PADDING, KnownPlaces, patch_inputs, revealed_inputs, token_table

__all__ = [
    "PADDING",
    "GeneHead",
    "KnownPlaces",
    "all_logits",
    "draw_listed",
    "draw_token",
    "guided_logits",
    "mean_counts",
    "patch_inputs",
    "revealed_inputs",
    "token_counts",
    "token_nll",
    "token_table",
    "weighted_cross_entropy",
]
