"""Attention of libraries behind the same semantics: cuDNN through jax, and tokamax where it is installed."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.reference import visible
from lingshu_jax.kernels.attention.rope import rotate


@dataclasses.dataclass(frozen=True)
class Cudnn(Implementation):
    """cuDNN's fused attention (NVIDIA GPUs; half precision): the mask is given to it as a bias."""

    def __call__(
        self,
        q: Float[Array, "B N H K"],
        k: Float[Array, "B N H K"],
        v: Float[Array, "B N H K"],
        segment_ids: Int[Array, "B N"],
        rope: Int[Array, "..."] | None,
    ) -> Float[Array, "B N H K"]:
        positions = q.shape[1]
        # cuDNN refuses an odd number of positions with a mask in training.
        q, k, v, segment_ids, mask = _masked(q, k, v, segment_ids, rope, multiple=2)
        out = jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")
        return jnp.where((segment_ids != 0)[:, :, None, None], out, 0)[:, :positions]


@dataclasses.dataclass(frozen=True)
class Tokamax(Implementation):
    """tokamax's choice of kernel for the device."""

    def unsupported(self, shape: tuple[int, ...]) -> str | None:
        return None if importlib.util.find_spec("tokamax") else "tokamax is not installed (pip install tokamax)"

    def __call__(
        self,
        q: Float[Array, "B N H K"],
        k: Float[Array, "B N H K"],
        v: Float[Array, "B N H K"],
        segment_ids: Int[Array, "B N"],
        rope: Int[Array, "..."] | None,
    ) -> Float[Array, "B N H K"]:
        import tokamax  # pyright: ignore[reportMissingImports]

        positions = q.shape[1]
        q, k, v, segment_ids, mask = _masked(q, k, v, segment_ids, rope, multiple=1)
        out = tokamax.dot_product_attention(q, k, v, mask=mask)
        return jnp.where((segment_ids != 0)[:, :, None, None], out, 0)[:, :positions]


def _masked(
    q: Array, k: Array, v: Array, segment_ids: Array, rope: Array | None, *, multiple: int
) -> tuple[Array, Array, Array, Array, Array]:
    """Rotated q and k, padded, and the mask (B, 1, N, N).

    A query without an allowed key may see itself, so that no softmax is empty; its output is thrown away.
    """
    q, k, v = visible(q, k, v, segment_ids)
    if rope is not None:
        q, k = rotate(q, rope), rotate(k, rope)
    more = -q.shape[1] % multiple
    q, k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q, k, v))
    segment_ids = jnp.pad(segment_ids, ((0, 0), (0, more)))
    allowed = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :]
    nobody = (segment_ids == 0)[:, :, None] & jnp.eye(q.shape[1], dtype=bool)
    return q, k, v, segment_ids, (allowed | nobody)[:, None]
