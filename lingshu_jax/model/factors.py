"""Low-rank gene factors: a path beside the patches from every visible gene to every gene's log-rate."""

# B cells, P patches, S genes per patch, R rank, D width

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.model.blocks import rms_norm
from lingshu_jax.model.config import LowRankFactors, NoFactors
from lingshu_jax.model.parameters import ones, scaled_normal, zeros
from lingshu_jax.model.start import visible_counts
from lingshu_jax.tokens import OVERFLOW


class GeneFactors(nnx.Module):
    """`z = sum over visible genes of log1p(count / depth) A_g / sqrt(visible share)`, and back through B_g."""

    def __init__(self, rank: int, patches: int, genes_per_patch: int, width: int, *, rngs: nnx.Rngs):
        """A and B are (P, S, R); the way back starts at 0."""
        self.encode = scaled_normal(rngs, (patches, genes_per_patch, rank), (None, None, None), 0.04)
        self.decode = scaled_normal(rngs, (patches, genes_per_patch, rank), (None, None, None), 0.1)
        self.into = scaled_normal(rngs, (rank, width), (None, "embed"), rank**-0.5)
        self.norm = ones((width,), (None,))
        self.out = zeros((width, rank), ("embed", None))

    def summary(self, tokens: Int[Array, "B P S"], depth: Float[Array, "B"]) -> Float[Array, "B D"]:
        """What the visible genes add to the summary token."""
        visible = tokens <= OVERFLOW
        level = jnp.where(visible, jnp.log1p(visible_counts(tokens) / depth[:, None, None]), 0.0)
        share = visible.mean((1, 2), dtype=jnp.float32)
        z = jnp.einsum("bps,psr->br", level, self.encode[...]) / jnp.sqrt(share + 0.02)[:, None]
        return z @ self.into[...]

    def log_rate(self, summary_state: Float[Array, "B D"]) -> Float[Array, "B P S"]:
        """The shift of every gene's log-rate that the summary token's last state tells."""
        z = rms_norm(summary_state.astype(jnp.float32), self.norm[...]) @ self.out[...]
        return jnp.einsum("br,psr->bps", z, self.decode[...])


@functools.singledispatch
def build_factors(config: Any, patches: int, genes_per_patch: int, width: int, rngs: nnx.Rngs) -> GeneFactors | None:
    """The factor module of a factor setting, None for a model without."""
    raise TypeError(f"no gene factors for {type(config).__name__}.")


@build_factors.register
def _(config: NoFactors, patches: int, genes_per_patch: int, width: int, rngs: nnx.Rngs) -> None:
    return None


@build_factors.register
def _(config: LowRankFactors, patches: int, genes_per_patch: int, width: int, rngs: nnx.Rngs) -> GeneFactors:
    return GeneFactors(config.rank, patches, genes_per_patch, width, rngs=rngs)
