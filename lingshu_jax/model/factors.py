"""Low-rank gene factors: a path beside the patches from visible genes and labels to every gene's log-rate."""

# B cells, P patches, S genes per patch, R rank, D width

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.model.blocks import rms_norm
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.conditions import Conditions
from lingshu_jax.model.config import Features, LowRankFactors, NoFactors, TargetFeatures
from lingshu_jax.model.parameters import ones, scaled_normal, zeros
from lingshu_jax.model.rows import embed_field
from lingshu_jax.model.start import visible_counts
from lingshu_jax.model.targets import TargetProjection
from lingshu_jax.tokens import OVERFLOW
from lingshu_jax.vocabulary import ConditionVocabulary

LARGEST_SHIFT = 4.0
"""Upper bound on the factors' shift of a log-rate: a factor of 55. Downwards nothing can run away."""


class GeneFactors(nnx.Module):
    """`z = sum over visible genes of log1p(count / depth) A_g / sqrt(visible share)`, and back through B_g."""

    def __init__(
        self,
        rank: int,
        layout: GeneLayout,
        conditions: ConditionVocabulary,
        width: int,
        features: Features,
        *,
        rngs: nnx.Rngs,
    ):
        """A and B are (P, S, R); the way back, and what labels add to it, start at 0."""
        patches, genes_per_patch = layout.gene_at.shape
        self.encode = scaled_normal(rngs, (patches, genes_per_patch, rank), (None, None, None), 0.04)
        self.decode = scaled_normal(rngs, (patches, genes_per_patch, rank), (None, None, None), 0.1)
        self.into = scaled_normal(rngs, (rank, width), (None, "embed"), rank**-0.5)
        self.norm = ones((width,), (None,))
        self.out = zeros((width, rank), ("embed", None))
        self.labels = nnx.Dict({field.name: zeros((field.rows, rank), (None, None)) for field in conditions.fields})
        self.vocabulary, self.perturbation = conditions, conditions.perturbation and conditions.perturbation.name
        told = isinstance(features, TargetFeatures)
        self.projection = TargetProjection(features.size, rank, scale=0.0, rngs=rngs) if told else None

    def summary(self, tokens: Int[Array, "B P S"], depth: Float[Array, "B"]) -> Float[Array, "B D"]:
        """What the visible genes add to the summary token."""
        visible = tokens <= OVERFLOW
        level = jnp.where(visible, jnp.log1p(visible_counts(tokens) / depth[:, None, None]), 0.0)
        share = visible.mean((1, 2), dtype=jnp.float32)
        z = jnp.einsum("bps,psr->br", level, self.encode[...]) / jnp.sqrt(share + 0.02)[:, None]
        return z @ self.into[...]

    def log_rate(
        self, summary_state: Float[Array, "B D"], conditions: Conditions, features: Float[Array, "T K"] | None = None
    ) -> Float[Array, "B P S"]:
        """The shift of every gene's log-rate that the summary token's last state and the labels tell.

        Labels act on the factors directly too: a perturbation's effect on the mean is low-rank, and seen in few cells.
        """
        z = self._factors(summary_state)
        told = (
            embed_field(field, self.labels[field.name][...], conditions[field.name]) for field in self.vocabulary.fields
        )
        z = z + sum(told)
        if self.projection is not None and features is not None and self.perturbation is not None:
            z = z + self.projection(features, conditions[self.perturbation])
        # Bounded, so that a rate that grows with the counts it made cannot run away while a cell is drawn.
        return jnp.minimum(jnp.einsum("br,psr->bps", z, self.decode[...]), LARGEST_SHIFT)

    def coordinates(self, summary_state: Float[Array, "B D"]) -> Float[Array, "B R"]:
        """The state's own part of `log_rate`, rotated and scaled: distances are those of log-rates over all genes."""
        decode = self.decode[...].reshape(-1, self.decode[...].shape[-1])
        gram = decode.T @ decode
        small = 1e-6 * jnp.trace(gram) * jnp.eye(len(gram))
        return self._factors(summary_state) @ jnp.linalg.cholesky(gram + small)

    def _factors(self, summary_state: Float[Array, "B D"]) -> Float[Array, "B R"]:
        return rms_norm(summary_state.astype(jnp.float32), self.norm[...]) @ self.out[...]


@functools.singledispatch
def build_factors(
    config: Any,
    layout: GeneLayout,
    conditions: ConditionVocabulary,
    width: int,
    features: Features,
    rngs: nnx.Rngs,
) -> GeneFactors | None:
    """The factor module of a factor setting, None for a model without."""
    raise TypeError(f"no gene factors for {type(config).__name__}.")


@build_factors.register
def _(
    config: NoFactors,
    layout: GeneLayout,
    conditions: ConditionVocabulary,
    width: int,
    features: Features,
    rngs: nnx.Rngs,
) -> None:
    return None


@build_factors.register
def _(
    config: LowRankFactors,
    layout: GeneLayout,
    conditions: ConditionVocabulary,
    width: int,
    features: Features,
    rngs: nnx.Rngs,
) -> GeneFactors:
    return GeneFactors(config.rank, layout, conditions, width, features, rngs=rngs)
