"""Where the logits start: nothing, each gene's log-frequencies, or its negative binomial at the cell's depth.

Each start says what the visible genes tell of a cell's depth, which fixed base its logits have, and how a change of a
gene's log-rate tilts them. Training adds to that what genes say about each other.
"""

# B cells, P patches, S genes per patch, V output tokens

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from lingshu_jax.kernels.gene_head import token_counts
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.conditions import Conditions
from lingshu_jax.model.config import DepthNB, LogFrequency, NoBias
from lingshu_jax.model.label_rates import LabelRates
from lingshu_jax.model.negative_binomial import log_token_mass
from lingshu_jax.model.parameters import Fixed
from lingshu_jax.model.rows import embed_effects, index_of
from lingshu_jax.model.statistics import StartStatistics
from lingshu_jax.tokens import MASK, OVERFLOW, VOCAB_SIZE
from lingshu_jax.vocabulary import FARTHEST, ConditionVocabulary

MEAN_FLOOR = 1e-8
SMALLEST_LOG_VARIANCE = 1e-6
WIDEST_DRAW = 3.0
"""Drawn depths lie within so many standard deviations of what the labels tell: no deeper cell was seen in training."""


class NoStart(nnx.Module):
    """Logits start at zero; depth is not known."""

    def base(self) -> Float[Array, "S P V"] | None:
        """The fixed part of the logits."""
        return None

    def depth(
        self, tokens: Int[Array, "B P S"], conditions: Conditions, keys: Key[Array, "B"] | None = None
    ) -> Float[Array, "B"] | None:
        """The cell's depth given its visible genes and labels, 1 = the average cell; None where it is not known.

        With keys it is drawn from its posterior instead of being its mean: the genes of a generated cell share one
        depth, as those of a real cell do. Without that the spread of library sizes would collapse.
        """
        return None

    def told(self, conditions: Conditions) -> Float[Array, "B P S"] | None:
        """The shift of every gene's log-rate that labels begin with; None where there is none."""
        return None

    def tilt(self, log_rate: Float[Array, "B P S"]) -> Float[Array, "B P S"] | None:
        """The shift per count of the logits when genes' log-rates move by `log_rate`."""
        return None


class FrequencyStart(NoStart):
    """Logits start at the smoothed log-frequencies of each gene."""

    def __init__(self, layout: GeneLayout, statistics: StartStatistics | None):
        """Zeros where `statistics` is None: a shape to restore into."""
        self.table = Fixed(_table(layout, None if statistics is None else log_frequencies(statistics.histogram)))

    def base(self) -> Float[Array, "S P V"]:
        return self.table[...]


class DepthStart(NoStart):
    """Logits start at each gene's negative binomial, scaled by the posterior mean of the cell's depth and shifted by
    its labels."""

    def __init__(
        self,
        label_rank: int,
        layout: GeneLayout,
        vocabulary: ConditionVocabulary,
        statistics: StartStatistics | None,
    ):
        """Zeros where `statistics` is None: a shape to restore into."""
        shape = layout.gene_at.shape
        rates = None if statistics is None else statistics.rates
        labelled = label_rank > 0 and bool(vocabulary.labelled)
        self.label_rates = LabelRates(label_rank, layout, vocabulary, rates) if labelled else None
        self.table = Fixed(_table(layout, None))
        self.mean, self.dispersion = Fixed(np.zeros(shape, np.float32)), Fixed(np.ones(shape, np.float32))
        self.log_variance = Fixed(np.zeros((), np.float32))
        self.mean_effects = nnx.Dict({f.name: Fixed(np.zeros(f.rows, np.float32)) for f in vocabulary.labelled})
        self.spread_effects = nnx.Dict({f.name: Fixed(np.zeros(f.rows, np.float32)) for f in vocabulary.labelled})
        self.library_size = vocabulary.library_size
        if statistics is not None:
            mean = np.maximum(statistics.mean, MEAN_FLOOR)
            dispersion = rates.dispersion if labelled and rates is not None else statistics.dispersion
            self.table = Fixed(_table(layout, log_token_mass(mean, dispersion)))
            self.mean = Fixed(layout.spread(mean.astype(np.float32), padding=0.0))
            self.dispersion = Fixed(layout.spread(dispersion.astype(np.float32), padding=1.0))
            self.log_variance = Fixed(np.float32(max(statistics.depth_log_variance, SMALLEST_LOG_VARIANCE)))
            self.mean_effects = nnx.Dict(_fixed(statistics.depth_effects))
            self.spread_effects = nnx.Dict(_fixed(statistics.spread_effects))

    def base(self) -> Float[Array, "S P V"]:
        return self.table[...]

    def depth(
        self, tokens: Int[Array, "B P S"], conditions: Conditions, keys: Key[Array, "B"] | None = None
    ) -> Float[Array, "B"]:
        """Where the library size is given, that over what the measured genes hold in the average cell. Else the
        posterior mean under a gamma prior; genes weigh by inverse variance. With every gene masked, what the labels
        tell: 1 without labels."""
        depth, field = self._posterior(tokens, conditions, keys), self.library_size
        if field is None or field.name not in conditions:
            return depth
        log_library = conditions[field.name]
        farthest = FARTHEST * field.scale
        library = jnp.exp(jnp.clip(log_library, field.mean - farthest, field.mean + farthest))
        expected = jnp.where(tokens <= MASK, self._mean(conditions), 0.0).sum((1, 2))
        return jnp.where(jnp.isnan(log_library), depth, library / jnp.maximum(expected, MEAN_FLOOR))

    def _posterior(
        self, tokens: Int[Array, "B P S"], conditions: Conditions, keys: Key[Array, "B"] | None
    ) -> Float[Array, "B"]:
        """Its mean, or a draw from it, given visible genes and labels."""
        mean = self._mean(conditions)
        weight = 1.0 / (1.0 + mean / self.dispersion[...])
        visible = tokens <= OVERFLOW
        observed = jnp.where(visible, visible_counts(tokens) * weight, 0.0).sum((1, 2))
        expected = jnp.where(visible, mean * weight, 0.0).sum((1, 2))
        told, spread = (
            jnp.exp(
                sum(
                    embed_effects(effects[name][...], index_of(rows))
                    for name, rows in conditions.items()
                    if name in effects
                )
            )
            for effects in (self.mean_effects, self.spread_effects)
        )
        # The gamma prior with the variance of a log-normal of the observed log-variance.
        prior = 1.0 / jnp.expm1(self.log_variance[...] * spread)
        shape, rate = prior + observed, prior / told + expected
        if keys is None:
            return shape / rate
        # Log-normal, of the posterior's mean and variance: library sizes are skewed to the right, as gammas are not.
        variance = jnp.log1p(1.0 / shape)
        z = jax.vmap(jax.random.normal)(keys)
        widest = jnp.exp(WIDEST_DRAW * jnp.sqrt(self.log_variance[...] * spread))
        return jnp.clip(shape / rate * jnp.exp(jnp.sqrt(variance) * z - variance / 2), told / widest, told * widest)

    def _mean(self, conditions: Conditions) -> Float[Array, "#B P S"]:
        """Mean counts of a cell with these labels at depth 1."""
        told = self.told(conditions)
        return self.mean[...][None] if told is None else self.mean[...] * jnp.exp(told)

    def told(self, conditions: Conditions) -> Float[Array, "B P S"] | None:
        return None if self.label_rates is None else self.label_rates(conditions)

    def tilt(self, log_rate: Float[Array, "B P S"]) -> Float[Array, "B P S"]:
        """log r + log((theta + mu) / (theta + r mu)): the same negative binomial at mean r mu, but for a constant."""
        mean, dispersion = self.mean[...], self.dispersion[...]
        return log_rate + jnp.log((dispersion + mean) / (dispersion + jnp.exp(log_rate) * mean))


def visible_counts(tokens: Int[Array, "..."]) -> Float[Array, "..."]:
    """The representative count of each output token, 0 for every other token."""
    return jnp.asarray(np.append(token_counts(), 0.0).astype(np.float32))[jnp.minimum(tokens, VOCAB_SIZE)]


def log_frequencies(histogram: np.ndarray) -> np.ndarray:
    """Smoothed log-frequencies (G, V): P = (H + pool / 2) / (n + 1/2), pool = normalised (total histogram + 1)."""
    pool = histogram.sum(axis=0) + 1.0
    pool /= pool.sum()
    return np.log(histogram + 0.5 * pool) - np.log(histogram.sum(axis=1, keepdims=True) + 0.5)


@functools.singledispatch
def build_start(
    config: Any, layout: GeneLayout, vocabulary: ConditionVocabulary, statistics: StartStatistics | None
) -> NoStart:
    """The start module of a start setting; arrays are zeros where `statistics` is None."""
    raise TypeError(f"no start for {type(config).__name__}.")


@build_start.register
def _(
    config: NoBias, layout: GeneLayout, vocabulary: ConditionVocabulary, statistics: StartStatistics | None
) -> NoStart:
    return NoStart()


@build_start.register
def _(
    config: LogFrequency, layout: GeneLayout, vocabulary: ConditionVocabulary, statistics: StartStatistics | None
) -> NoStart:
    return FrequencyStart(layout, statistics)


@build_start.register
def _(
    config: DepthNB, layout: GeneLayout, vocabulary: ConditionVocabulary, statistics: StartStatistics | None
) -> NoStart:
    return DepthStart(config.label_rank, layout, vocabulary, statistics)


def _fixed(effects: Mapping[str, np.ndarray]) -> dict[str, Fixed]:
    return {name: Fixed(effect.astype(np.float32)) for name, effect in effects.items()}


def _table(layout: GeneLayout, log_mass: np.ndarray | None) -> np.ndarray:
    if log_mass is None:
        log_mass = np.zeros((layout.genes, VOCAB_SIZE))
    return np.ascontiguousarray(np.moveaxis(layout.spread(log_mass.astype(np.float32), padding=0.0), 1, 0))
