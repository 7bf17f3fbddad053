"""Masked self-attention with segment semantics and RoPE."""

from lingshu_jax.kernels.attention.api import attention

__all__ = ["attention"]
