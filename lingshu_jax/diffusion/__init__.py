"""Masked discrete diffusion: corruption, objective, likelihood bound, guidance and sampling."""

from typing import TYPE_CHECKING, Any

from lingshu_jax.diffusion.config import SamplerConfig
from lingshu_jax.diffusion.guidance import ControlGuidance, NoGuidance, NullGuidance
from lingshu_jax.diffusion.order import Ancestral, Confidence
from lingshu_jax.diffusion.schedule import CosineSchedule, CustomSchedule, GeometricSchedule, LinearSchedule

if TYPE_CHECKING:
    from lingshu_jax.diffusion.corruption import corrupt
    from lingshu_jax.diffusion.likelihood import log_likelihood_bound
    from lingshu_jax.diffusion.objective import masked_loss
    from lingshu_jax.diffusion.sampler import sample

_LAZY = {
    "corrupt": "corruption",
    "masked_loss": "objective",
    "log_likelihood_bound": "likelihood",
    "sample": "sampler",
}

__all__ = [
    "Ancestral",
    "Confidence",
    "ControlGuidance",
    "CosineSchedule",
    "CustomSchedule",
    "GeometricSchedule",
    "LinearSchedule",
    "NoGuidance",
    "NullGuidance",
    "SamplerConfig",
    "corrupt",
    "log_likelihood_bound",
    "masked_loss",
    "sample",
]


def __getattr__(name: str) -> Any:
    """Import what needs jax when it is first asked for."""
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
