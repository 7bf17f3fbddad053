"""Rotary position embedding (paper section 4): patches are rotated by their place, condition tokens are not."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

ROPE_BASE = 10_000.0


def rotate(x: Float[Array, "B N H K"], positions: Int[Array, "N"] | Int[Array, "B N"]) -> Float[Array, "B N H K"]:
    """Rotate the two halves of each head by position-dependent angles; a negative position leaves its row as it is."""
    half = x.shape[-1] // 2
    cos, sin = cos_and_sin(positions, half)
    cos, sin = cos[..., None, :], sin[..., None, :]  # a head axis of 1
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def cos_and_sin(
    positions: Int[Array, "*B N"], half: int
) -> tuple[Float[Array, "*B N half"], Float[Array, "*B N half"]]:
    """fp32 cosines and sines of every position's angles; 1 and 0 for negative positions."""
    frequency = ROPE_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.maximum(positions, 0).astype(jnp.float32)[..., None] * frequency
    return jnp.cos(angle), jnp.sin(angle)


def by_cell(positions: Int[Array, "N"] | Int[Array, "B N"] | None, count: int) -> Int[Array, "1 N"] | Int[Array, "B N"]:
    """Positions with an axis of cells, 1 where all cells share them; without positions, ones that rotate nothing."""
    if positions is None:
        return jnp.full((1, count), -1, jnp.int32)
    return positions if positions.ndim == 2 else positions[None]
