"""Masked self-attention with segment semantics and RoPE."""

from lingshu_jax.kernels.attention.api import IMPLEMENTATIONS, attention
from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.library import Cudnn, Tokamax
from lingshu_jax.kernels.attention.mosaic_gpu import MosaicGpu
from lingshu_jax.kernels.attention.pallas_tpu import PallasTpu
from lingshu_jax.kernels.attention.reference import Xla

__all__ = ["IMPLEMENTATIONS", "Cudnn", "Implementation", "MosaicGpu", "PallasTpu", "Tokamax", "Xla", "attention"]
