"""The transformer (paper section 4): pre-norm blocks of attention and SwiGLU, stacked and scanned."""

# B cells, N positions, D width, L blocks, H heads, K head size, F feed-forward width

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention import attention
from lingshu_jax.model.config import DenoiserConfig
from lingshu_jax.model.parameters import ones, scaled_normal
from lingshu_jax.model.remat import with_remat
from lingshu_jax.parallel.rules import Axes, gathered, spread

NORM_EPSILON = 1e-6
_AXES: dict[str, Axes] = {
    "qkv": ("embed", None, "heads", None),
    "attention_out": ("heads", None, "embed"),
    "gate": ("embed", "mlp"),
    "up": ("embed", "mlp"),
    "down": ("mlp", "embed"),
}
"""Logical axes of one block's matrices."""
_STREAM: Axes = ("cells", "positions", None)


def rms_norm(x: Float[Array, "... D"], weight: Float[Array, "D"]) -> Float[Array, "... D"]:
    """Root-mean-square normalisation; its statistics are in fp32."""
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + NORM_EPSILON)
    return (wide * scale * weight).astype(x.dtype)


class Blocks(nnx.Module):
    """All blocks, every parameter with a leading axis of L, run by one scan."""

    def __init__(self, config: DenoiserConfig, *, rngs: nnx.Rngs):
        """Weights: 4 D^2 of attention and 3 D F of SwiGLU per block."""
        blocks, width, ffn = config.blocks, config.width, config.ffn_width
        heads, size = config.heads, config.width // config.heads
        # Outputs are scaled down with depth, so that the residual stream starts at the scale of its input.
        into_stream = (2 * blocks) ** -0.5
        self.config = config
        self.attention_norm = ones((blocks, width), ("layers", None))
        self.qkv = scaled_normal(rngs, (blocks, width, 3, heads, size), ("layers", *_AXES["qkv"]), width**-0.5)
        self.attention_out = scaled_normal(
            rngs, (blocks, heads, size, width), ("layers", *_AXES["attention_out"]), width**-0.5 * into_stream
        )
        self.ffn_norm = ones((blocks, width), ("layers", None))
        self.gate = scaled_normal(rngs, (blocks, width, ffn), ("layers", *_AXES["gate"]), width**-0.5)
        self.up = scaled_normal(rngs, (blocks, width, ffn), ("layers", *_AXES["up"]), width**-0.5)
        self.down = scaled_normal(rngs, (blocks, ffn, width), ("layers", *_AXES["down"]), ffn**-0.5 * into_stream)

    def __call__(
        self, x: Float[Array, "B N D"], segment_ids: Int[Array, "B N"], rope: Int[Array, "N"]
    ) -> Float[Array, "B N D"]:
        """Run the stack; positions of segment 0 are seen by nobody."""
        parameters = {
            name: getattr(self, name)[...]
            for name in ("attention_norm", "qkv", "attention_out", "ffn_norm", "gate", "up", "down")
        }
        attend = functools.partial(attention, segment_ids=segment_ids, rope=rope, implementation=self.config.attention)
        block = functools.partial(_block, attend=attend)
        return jax.lax.scan(with_remat(self.config.remat, block), x, parameters)[0]


def _block(
    x: Float[Array, "B N D"], weights: dict[str, Array], *, attend: Callable[..., Float[Array, "B N H K"]]
) -> tuple[Float[Array, "B N D"], None]:
    matrices = {name: gathered(weights[name].astype(x.dtype), axes) for name, axes in _AXES.items()}
    x = spread(x, _STREAM)
    inner = rms_norm(x, weights["attention_norm"])
    q, k, v = jnp.moveaxis(jnp.einsum("bnd,dchk->bnchk", inner, matrices["qkv"]), 2, 0)
    mixed = attend(q, k, v)
    x = spread(x + jnp.einsum("bnhk,hkd->bnd", mixed, matrices["attention_out"]), _STREAM)
    inner = rms_norm(x, weights["ffn_norm"])
    gated = jax.nn.silu(inner @ matrices["gate"]) * (inner @ matrices["up"])
    return spread(x + gated @ matrices["down"], _STREAM), None
