"""The mean count of every gene under its token distribution, one tile of logits at a time."""

# B cells, P patches, p patches of a tile, S genes per patch, V output tokens

import jax
from jaxtyping import Array, Float

from lingshu_jax.kernels.gene_head.head import GeneHead, token_counts
from lingshu_jax.kernels.gene_head.tiles import map_genes


def mean_counts(head: GeneHead) -> Float[Array, "B P S"]:
    """Mean count of every gene; a bin counts as its middle."""
    return map_genes(_mean, head)


def _mean(logits: Float[Array, "B p V"]) -> Float[Array, "B p"]:
    return jax.nn.softmax(logits, axis=-1) @ token_counts()
