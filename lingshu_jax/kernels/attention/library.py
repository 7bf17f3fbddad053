"""Attention of libraries behind the same semantics: cuDNN through jax, and tokamax where it is installed."""

import abc
import dataclasses
import importlib.util
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lingshu_jax.kernels.attention.implementation import Implementation, compiled_elsewhere
from lingshu_jax.kernels.attention.reference import visible
from lingshu_jax.kernels.attention.rope import rotate

# B cells, N positions, M = N padded, H heads, K head size


@dataclasses.dataclass(frozen=True)
class Library(Implementation):
    """A library's attention with a mask: what it leaves undefined is defined around it."""

    multiple: ClassVar[int] = 1
    """Numbers of positions that the library takes."""

    @abc.abstractmethod
    def attend(
        self,
        q: Float[Array, "B M H K"],
        k: Float[Array, "B M H K"],
        v: Float[Array, "B M H K"],
        mask: Bool[Array, "B 1 M M"],
    ) -> Float[Array, "B M H K"]:
        """The library's own function; every query has an allowed key."""

    def __call__(self, q, k, v, segment_ids, rope):
        positions = q.shape[1]
        q, k, v = visible(q, k, v, segment_ids)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        more = -positions % self.multiple
        q, k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q, k, v))
        segment_ids = jnp.pad(segment_ids, ((0, 0), (0, more)))
        allowed = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :]
        # No softmax is empty: where nothing is allowed a query sees itself, and its output is thrown away.
        nobody = (segment_ids == 0)[:, :, None] & jnp.eye(q.shape[1], dtype=bool)
        out = self.attend(q, k, v, (allowed | nobody)[:, None])
        return jnp.where((segment_ids != 0)[:, :, None, None], out, 0)[:, :positions]


@dataclasses.dataclass(frozen=True)
class Cudnn(Library):
    """cuDNN's fused attention (NVIDIA GPUs; half precision): the mask is given to it as a bias."""

    multiple: ClassVar[int] = 2
    """cuDNN refuses an odd number of positions with a mask in training."""

    def unsupported(self, shape: tuple[int, ...], dtype: jnp.dtype) -> str | None:
        return compiled_elsewhere("gpu")

    def attend(self, q, k, v, mask):
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")


@dataclasses.dataclass(frozen=True)
class Tokamax(Library):
    """tokamax's choice of kernel for the device."""

    def unsupported(self, shape: tuple[int, ...], dtype: jnp.dtype) -> str | None:
        return None if importlib.util.find_spec("tokamax") else "tokamax is not installed (pip install tokamax)"

    def attend(self, q, k, v, mask):
        import tokamax  # pyright: ignore[reportMissingImports]

        return tokamax.dot_product_attention(q, k, v, mask=mask)
