"""Kernels of the compute path: one package per operation, each with a dispatching function of plain arrays."""

from lingshu_jax.kernels.attention import attention

__all__ = ["attention"]
