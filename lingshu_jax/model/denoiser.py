"""The denoiser p(original tokens | partly masked tokens, conditions): all genes in, all genes out (paper section 4)."""

# B cells, G genes, P patches, S genes per patch, N = [summary] + conditions + P positions, D width, V output tokens

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head import (
    GeneHead,
    KnownPlaces,
    all_logits,
    mean_counts,
    patch_inputs,
    token_nll,
    token_table,
)
from lingshu_jax.model.blocks import Blocks, rms_norm
from lingshu_jax.model.compression import GeneLayout, to_panel, to_patches
from lingshu_jax.model.conditions import Conditions, ConditionTokens
from lingshu_jax.model.config import DenoiserConfig
from lingshu_jax.model.factors import build_factors
from lingshu_jax.model.parameters import Fixed, ones, scaled_normal, zeros
from lingshu_jax.model.reverse import DenoiserReverse
from lingshu_jax.model.start import NoStart, build_start
from lingshu_jax.model.statistics import StartStatistics
from lingshu_jax.model.targets import feature_table
from lingshu_jax.tokens import INPUT_VOCAB_SIZE, MASK, VOCAB_SIZE
from lingshu_jax.vocabulary import ConditionVocabulary


class FixedArrays(nnx.Module):
    """The arrays of a denoiser that are never trained, under the names they have in it: layout table and start."""

    def __init__(
        self,
        config: DenoiserConfig,
        layout: GeneLayout,
        conditions: ConditionVocabulary,
        statistics: StartStatistics | None,
    ):
        """Real numbers, made on the host; a `Denoiser` built without statistics has the same shapes, zero."""
        self.place, self.gene_at = Fixed(layout.place), Fixed(layout.gene_at)
        self.start = build_start(config.start, layout, conditions, statistics)
        values = None if statistics is None else statistics.target_features
        self.target_features = feature_table(config.features, conditions, values)


NOT_ROTATED = -1


class Denoiser(nnx.Module):
    """Masked tokens and conditions to per-gene token distributions.

    Public methods take tokens (B, G) in panel order; the `*_patches` ones take the patch layout (B, P, S), in which
    training keeps cells.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        layout: GeneLayout,
        conditions: ConditionVocabulary = ConditionVocabulary(),  # noqa: B008 (frozen)
        *,
        statistics: StartStatistics | None = None,
        rngs: nnx.Rngs,
    ):
        """Build the parameters.

        Args:
            config: the architecture.
            layout: where every gene sits.
            conditions: the condition fields, one prepended token each.
            statistics: per-gene training statistics that the start is computed from; None leaves it zero, to be
                restored from a checkpoint.
            rngs: source of the initial values.
        """
        slots, width, patches = config.genes_per_patch, config.width, layout.patches
        self.config, self.conditions = config, conditions
        self.place, self.gene_at = Fixed(layout.place), Fixed(layout.gene_at)
        self.embedding = scaled_normal(rngs, (INPUT_VOCAB_SIZE, width), (None, "embed"), 1.0)
        self.w_down = scaled_normal(rngs, (slots, width, width), (None, None, "embed"), (slots * width) ** -0.5)
        self.w_up = scaled_normal(rngs, (width, slots, width), ("embed", None, None), width**-0.5)
        self.w_head = zeros((width, config.corrected_tokens), (None, "vocab"))
        self.patch_embedding = scaled_normal(rngs, (patches, width), (None, "embed"), 0.02)
        self.condition_tokens = ConditionTokens(conditions, width, config.features, rngs=rngs)
        self.blocks = Blocks(config, rngs=rngs)
        self.final_norm = ones((width,), (None,))
        self.start = build_start(config.start, layout, conditions, statistics)
        self.factors = build_factors(config.factors, layout, conditions, width, config.features, rngs)
        values = None if statistics is None else statistics.target_features
        self.target_features = feature_table(config.features, conditions, values)
        # A start that knows depth tells it to the network through a summary token of its own.
        self.has_summary = type(self.start).depth is not NoStart.depth
        if self.has_summary:
            self.depth_direction = scaled_normal(rngs, (width,), ("embed",), 0.5)

    @property
    def features(self) -> Float[Array, "R K"] | None:
        """Target features by vocabulary row, for a model that has them."""
        return None if self.target_features is None else self.target_features[...]

    @property
    def genes(self) -> int:
        """Number of genes G of the panel."""
        return self.place.shape[0]

    def __call__(self, tokens: Int[Array, "B G"], conditions: Conditions | None = None) -> Float[Array, "B G V"]:
        """fp32 logits of every gene at once: for small panels; training and sampling never form this array."""
        head = self.head_patches(self.patches(tokens), conditions)
        return to_panel(all_logits(head), self.place[...])

    def token_nll(
        self, tokens: Int[Array, "B G"], conditions: Conditions | None, targets: Int[Array, "B G"]
    ) -> Float[Array, "B G"]:
        """-log p(target | tokens, conditions) of every gene, nats."""
        head = self.head_patches(self.patches(tokens), conditions)
        return to_panel(token_nll(head, self.patches(targets)), self.place[...])

    def expected_counts(self, tokens: Int[Array, "B G"], conditions: Conditions | None) -> Float[Array, "B G"]:
        """The mean count of every gene given the visible ones and the conditions."""
        return to_panel(mean_counts(self.head_patches(self.patches(tokens), conditions)), self.place[...])

    def reference_nll(self, tokens: Int[Array, "B G"]) -> Float[Array, "B G"]:
        """-log-probability of every gene under the start alone, at the depth of the whole unmasked cell, nats."""
        patches = self.patches(tokens)
        depth = self.start.depth(patches, {})
        log_rate = None if depth is None else jnp.broadcast_to(jnp.log(depth)[:, None, None], patches.shape)
        tilt = None if log_rate is None else self.start.tilt(log_rate)
        states = jnp.zeros((*patches.shape[:2], 1), jnp.float32)
        matrix = jnp.zeros((patches.shape[2], 1, VOCAB_SIZE), jnp.float32)
        return to_panel(token_nll(GeneHead(states, matrix, self.start.base(), tilt), patches), self.place[...])

    @property
    def reverse(self) -> DenoiserReverse:
        """The denoiser in the reverse process."""
        return DenoiserReverse(self)

    def embed(self, tokens: Int[Array, "B G"], conditions: Conditions | None = None) -> Float[Array, "B E"]:
        """Cell representation from an unmasked forward pass.

        With gene factors (E = rank): what the summary token's last state says of every gene's log-rate, in coordinates
        whose distances are those of log-rates. Without (E = width): the mean of the last patch states.
        """
        patches, conditions = self.patches(tokens), self._checked(conditions)
        inputs = patch_inputs(patches, self.table(), None)
        states, prefix = self._run(inputs, patches, conditions, self.start.depth(patches, conditions))
        if self.factors is None:
            return states.astype(jnp.float32).mean(axis=1)
        return self.factors.coordinates(prefix[:, 0])

    def patches(self, tokens: Int[Array, "B G"]) -> Int[Array, "B P S"]:
        """Panel order to the patch layout."""
        return to_patches(tokens, self.gene_at[...])

    def head_patches(
        self,
        tokens: Int[Array, "B P S"],
        conditions: Conditions | None,
        known: KnownPlaces | None = None,
        *,
        depth: Float[Array, "B"] | None = None,
    ) -> GeneHead:
        """Run the network: everything the logits of every gene are made of, still factored.

        `known` holds the places of expressed and of ABSENT genes, where the caller has them; `depth` replaces the
        posterior mean of the cell's depth.
        """
        table = self.table()
        inputs = patch_inputs(tokens, table, known).astype(table.dtype)
        states, tilt = self.transform(inputs, tokens, conditions, depth=depth)
        return GeneHead(states, self.matrix(), self.start.base(), tilt)

    def table(self) -> Float[Array, "S T D"]:
        """The token table: embedding times W_down."""
        return token_table(
            self.embedding[...],
            self.w_down[...],
            zero_origin=self.config.zero_origin,
            scale=self.config.input_scale,
            dtype=jnp.dtype(self.config.dtype),
        )

    def matrix(self) -> Float[Array, "S D K"]:
        """The slot matrices: W_up times the head."""
        w_up, w_head = (weight[...].astype(jnp.float32) for weight in (self.w_up, self.w_head))
        matrix = jnp.einsum("dse,ev->sdv", w_up, w_head)
        return matrix.astype(self.config.dtype)

    def transform(
        self,
        inputs: Float[Array, "B P D"],
        tokens: Int[Array, "B P S"],
        conditions: Conditions | None,
        *,
        depth: Float[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B P D"], Float[Array, "B P S"] | None]:
        """Everything between the gene layers: compressed patches to their last states, and the shift of log-rates."""
        conditions = self._checked(conditions)
        depth = self.start.depth(tokens, conditions) if depth is None else depth
        states, prefix = self._run(inputs, tokens, conditions, depth)
        return states, self._tilt(tokens, depth, conditions, prefix)

    def _checked(self, conditions: Conditions | None) -> Conditions:
        self.condition_tokens.check(conditions or {})
        return conditions or {}

    def _run(
        self,
        inputs: Float[Array, "B P D"],
        tokens: Int[Array, "B P S"],
        conditions: Conditions,
        depth: Float[Array, "B"] | None,
    ) -> tuple[Float[Array, "B P D"], Float[Array, "B F D"]]:
        """Last states of the patches, and of the positions before them."""
        prefix = self._prefix(tokens, depth, conditions)
        inputs = inputs + self.patch_embedding[...].astype(inputs.dtype)
        x = jnp.concatenate([prefix.astype(inputs.dtype), inputs], axis=1)
        # A patch without a measured gene is no key for anybody.
        measured = (tokens <= MASK).any(axis=2)
        segment_ids = jnp.concatenate([jnp.ones(prefix.shape[:2], bool), measured], axis=1).astype(jnp.int32)
        rope = np.concatenate([np.full(prefix.shape[1], NOT_ROTATED), np.arange(inputs.shape[1])]).astype(np.int32)
        x = self.blocks(x, segment_ids, jnp.asarray(rope))
        return rms_norm(x[:, prefix.shape[1] :], self.final_norm[...]), x[:, : prefix.shape[1]]

    def _prefix(
        self, tokens: Int[Array, "B P S"], depth: Float[Array, "B"] | None, conditions: Conditions
    ) -> Float[Array, "B F D"]:
        """The positions before the patches: the summary token where the start knows depth, then the conditions."""
        parts = []
        if self.has_summary and depth is not None:
            summary = jnp.log(depth)[:, None] * self.depth_direction[...]
            if self.factors is not None:
                summary = summary + self.factors.summary(tokens, depth)
            parts.append(summary[:, None])
        if self.conditions.fields:
            parts.append(self.condition_tokens(conditions, self.features))
        empty = jnp.zeros((tokens.shape[0], 0, self.config.width), jnp.float32)
        return jnp.concatenate([empty, *parts], axis=1)

    def _tilt(
        self,
        tokens: Int[Array, "B P S"],
        depth: Float[Array, "B"] | None,
        conditions: Conditions,
        prefix: Float[Array, "B F D"],
    ) -> Float[Array, "B P S"] | None:
        if depth is None:
            return None
        log_rate = jnp.broadcast_to(jnp.log(depth)[:, None, None], tokens.shape)
        told = self.start.told(conditions)
        if told is not None:
            log_rate = log_rate + told
        if self.factors is not None:
            log_rate = log_rate + self.factors.log_rate(prefix[:, 0], conditions, self.features)
        return self.start.tilt(log_rate)
