"""The denoiser: gene compression, conditions, transformer blocks, and the start and tilt of its logits."""

from typing import TYPE_CHECKING, Any

from lingshu_jax.model.config import (
    ApartOrder,
    DenoiserConfig,
    DepthNB,
    KeepAll,
    KeepInputs,
    KeepProducts,
    LogFrequency,
    LowRankFactors,
    NoBias,
    NoFactors,
    NoFeatures,
    RandomOrder,
    TargetFeatures,
    TogetherOrder,
)

if TYPE_CHECKING:
    from lingshu_jax.model.denoiser import Denoiser

__all__ = [
    "ApartOrder",
    "Denoiser",
    "DenoiserConfig",
    "DepthNB",
    "KeepAll",
    "KeepInputs",
    "KeepProducts",
    "LogFrequency",
    "LowRankFactors",
    "NoBias",
    "NoFactors",
    "NoFeatures",
    "RandomOrder",
    "TargetFeatures",
    "TogetherOrder",
]


def __getattr__(name: str) -> Any:
    """Import the denoiser, and jax with it, when it is first asked for."""
    if name == "Denoiser":
        from lingshu_jax.model.denoiser import Denoiser

        return Denoiser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
