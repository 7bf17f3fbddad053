"""The settings of a denoiser, importable without jax: sizes, where its logits start, gene factors."""

import dataclasses
from typing import Literal

from lingshu_jax.tokens import VOCAB_SIZE


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoBias:
    """Logits start at zero, as in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogFrequency:
    """Logits start at the smoothed log-frequencies of each gene's tokens: the independent-gene baseline."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthNB:
    """Logits start at each gene's negative binomial, scaled by the depth that the visible genes tell of the cell, at
    the mean rates of its labels."""

    label_rank: int = 64
    """Rank of the shifts that labels begin with; 0 starts every label at the mean of all cells."""

    def __post_init__(self) -> None:
        if self.label_rank < 0:
            raise ValueError(f"start.label_rank must be >= 0, got {self.label_rank}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoFactors:
    """No path beside the patches, as in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowRankFactors:
    """A low-rank path beside the patches: which genes are expressed reaches every gene's rate directly."""

    rank: int = 32
    """Number of factors, >= 1."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be >= 1, got {self.rank}. For a model without factors choose NoFactors.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoFeatures:
    """A perturbation is a learned row, and means something only where it has training cells."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetFeatures:
    """A perturbation is the projection of its target's features plus a row: unseen ones can be asked for."""

    source: str = "coexpression"
    """Where features come from: the training controls' co-expression, or an .npz or .parquet file of one's own."""
    size: int = 64
    """Features of a target; settled by the file where there is one."""
    row_dropout: float = 0.5
    """Share of the training cells that see the features alone, in 0..1."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"features.size must be >= 1, got {self.size}.")
        if not 0 <= self.row_dropout <= 1:
            raise ValueError(f"features.row_dropout must lie in 0..1, got {self.row_dropout}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepAll:
    """Keep every activation of the blocks for the backward pass: fastest where they fit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepProducts:
    """Keep the blocks' matrix products, and compute attention, norms and gates again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeepInputs:
    """Keep each block's input alone, and compute the block again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomOrder:
    """Genes lie in patches at random, by the experiment's seed, as in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherOrder:
    """Genes that are co-expressed in training controls lie in one patch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApartOrder:
    """Genes that are co-expressed in training controls are dealt out to different patches."""


Start = NoBias | LogFrequency | DepthNB
Remat = KeepAll | KeepProducts | KeepInputs
Factors = NoFactors | LowRankFactors
Features = NoFeatures | TargetFeatures
GeneOrder = RandomOrder | TogetherOrder | ApartOrder


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """A denoiser's architecture (paper sections 3 and 4); gene panel and conditions come from the data.

    The defaults are the paper's sizes at 32 genes per patch.
    """

    genes_per_patch: int = 32
    """Genes compressed into one position of the transformer: 8 or 32 in the paper."""
    gene_order: GeneOrder = RandomOrder()
    """Which genes share a patch."""
    width: int = 640
    """Width of the residual stream."""
    blocks: int = 13
    """Number of transformer blocks."""
    heads: int = 10
    """Attention heads; width / heads must be even (RoPE rotates halves)."""
    ffn_width: int = 2560
    """Hidden width of the SwiGLU feed-forward layer."""
    start: Start = NoBias()
    """Where the logits start."""
    factors: Factors = NoFactors()
    """Low-rank gene factors beside the patches; they need the log-rate tilt of a `DepthNB` start."""
    features: Features = NoFeatures()
    """What is known of perturbations' targets beforehand."""
    head_tokens: int | None = None
    """Output tokens 0..head_tokens-1 that the network corrects; the start alone tells the probabilities beyond. None:
    with a start, those that occur in training cells (in steps of 8); without one, all."""
    zero_origin: bool = False
    """Subtract the zero-count row from the token table, so that an unexpressed gene adds exactly nothing."""
    input_scale: float = 1.0
    """Factor on the patch inputs."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Compute type of products; parameters, statistics and logits stay in fp32."""
    attention: Literal["auto", "xla", "pallas_tpu", "mosaic_gpu", "cudnn", "tokamax"] = "auto"
    """Which attention computes it; auto takes the fastest one that was validated on the platform."""
    remat: Remat = KeepInputs()
    """What the backward pass keeps of the blocks, and what it computes again."""

    def __post_init__(self) -> None:
        for name in ("genes_per_patch", "width", "blocks", "heads", "ffn_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be >= 1, got {getattr(self, name)}.")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"model.width {self.width} must be a multiple of 2 * heads = {2 * self.heads}. "
                f"Nearest: {max(1, round(self.width / (2 * self.heads))) * 2 * self.heads}."
            )
        if not 1 <= self.corrected_tokens <= VOCAB_SIZE:
            raise ValueError(f"model.head_tokens must be in 1..{VOCAB_SIZE}, got {self.head_tokens}.")
        if self.corrected_tokens < VOCAB_SIZE and isinstance(self.start, NoBias):
            raise ValueError(f"without a start every token must be learned: set model.head_tokens to {VOCAB_SIZE}.")
        if isinstance(self.factors, LowRankFactors) and not isinstance(self.start, DepthNB):
            raise ValueError("gene factors tilt the log-rate of a DepthNB start; choose that start, or NoFactors.")

    @property
    def corrected_tokens(self) -> int:
        """Number of output tokens that the network corrects."""
        return VOCAB_SIZE if self.head_tokens is None else self.head_tokens

    def with_tokens_in_use(self, largest_token: int) -> "DenoiserConfig":
        """Settle `head_tokens` by the largest token of the training cells, where it is left open."""
        if self.head_tokens is not None or isinstance(self.start, NoBias):
            return self
        return dataclasses.replace(self, head_tokens=min(VOCAB_SIZE, -(-(largest_token + 1) // 8) * 8))
