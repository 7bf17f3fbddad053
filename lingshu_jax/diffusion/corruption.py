"""The forward process (paper section 2): mask rates of low discrepancy, and masking, keyed by cell."""

# B cells, G genes (or any trailing shape)

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from lingshu_jax.tokens import MASK, OVERFLOW

SMALLEST_RATE = 1e-3
_GOLDEN_STEP = 2_654_435_769
"""(sqrt(5) - 1) / 2 in units of 2**-32: integer arithmetic keeps the sequence exact for any position."""


def corrupt(
    tokens: Int[Array, "B *G"], t: Float[Array, "B"], key: Key[Array, ""] | Key[Array, "B"]
) -> tuple[Int[Array, "B *G"], Bool[Array, "B *G"]]:
    """Replace each token by MASK with probability t, independently; only output tokens are ever masked.

    Args:
        tokens: tokens of whole cells; ABSENT and padding stay as they are.
        t: mask rate of every cell, in (0, 1].
        key: one key, or one per cell.

    Returns:
        The noised tokens, and where they were masked.
    """
    draws = jax.vmap(lambda cell_key: jax.random.uniform(cell_key, tokens.shape[1:]))(cell_keys(key, tokens.shape[0]))
    rate = t.reshape(-1, *[1] * (tokens.ndim - 1))
    masked = (draws < rate) & (tokens <= OVERFLOW)
    return jnp.where(masked, MASK, tokens), masked


def silence(noised: Int[Array, "B *G"], rate: float, key: Key[Array, ""] | Key[Array, "B"]) -> Int[Array, "B *G"]:
    """Show each visible expressed gene as not expressed with probability `rate`: molecules that were not captured.

    Args:
        noised: tokens of which some are masked; MASK, ABSENT, padding and token 0 stay as they are.
        rate: in [0, 1).
        key: one key, or one per cell.
    """
    draws = jax.vmap(lambda cell_key: jax.random.uniform(cell_key, noised.shape[1:]))(cell_keys(key, noised.shape[0]))
    return jnp.where((draws < rate) & (noised <= OVERFLOW), 0, noised)


def mask_rates(step_key: Key[Array, ""], position: Int[Array, "B"]) -> Float[Array, "B"]:
    """t_i = max(frac(u + i * (sqrt(5) - 1) / 2), 1e-3), one u per step, i = the cell's position in the global batch."""
    start = jax.random.bits(step_key, (), jnp.uint32)
    turns = start + position.astype(jnp.uint32) * jnp.uint32(_GOLDEN_STEP)  # wraps at 2**32: the fractional part
    return jnp.maximum(turns.astype(jnp.float32) * 2.0**-32, SMALLEST_RATE)


def cell_keys(key: Key[Array, ""] | Key[Array, "B"], cells: int) -> Key[Array, "B"]:
    """One key per cell: the given ones, or the given one folded with the cell's row."""
    if key.ndim == 1:
        if key.shape[0] != cells:
            raise ValueError(f"{key.shape[0]} keys were given for {cells} cells; pass one key, or one per cell.")
        return key
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(cells))
