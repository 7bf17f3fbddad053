"""Integration LISI (Korsunsky et al. 2019): how well generated and real cells mix in each other's neighbourhoods.

N pooled points, D dimensions, K neighbours
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lingshu_jax.evaluation.pairwise import map_row_blocks, padded, squared_distances

_BISECTIONS = 60


def ilisi(x: np.ndarray, y: np.ndarray, *, neighbours: int = 90, perplexity: float = 30.0) -> float:
    """Median over all cells of the inverse Simpson index of the two sets among a cell's neighbours, scaled to 0..1.

    Neighbours (the cell itself left out) are weighted by exp(-beta * Euclidean distance) with beta set per cell so that
    the weights have the given perplexity; LISI = 1 / (share of x squared + share of y squared), between 1 and 2; the
    result is its median minus 1. Take sets of equal size: the maximum 1 supposes it.

    Args:
        x: (n, D) points of one set.
        y: (m, D) points of the other.
        neighbours: neighbours looked at; with few points it shrinks to n + m - 1, and the perplexity to a third of it.
        perplexity: effective number of neighbours.

    Returns:
        0 (apart) to 1 (mixed).

    Raises:
        ValueError: fewer than 4 points in all, or sets that differ in dimension.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = len(x) + len(y)
    if n < 4 or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"LISI needs two sets of points (n, D) and (m, D), got shapes {x.shape} and {y.shape}.")
    k = min(neighbours, n - 1)
    points = np.concatenate([x, y])
    points = padded(points - points.mean(0))
    real = np.arange(len(points)) < n
    first = np.arange(len(points)) < len(x)
    index = _lisi(points, real, first, jnp.zeros(k), min(perplexity, k / 3))
    return float(np.median(np.asarray(index)[:n]) - 1)


@jax.jit
def _lisi(
    points: Float[Array, "N D"],
    real: Bool[Array, " N"],
    first: Bool[Array, " N"],
    neighbours: Float[Array, " K"],
    perplexity: Float[Array, ""],
) -> Float[Array, " N"]:
    def block(rows: Array, own: Array) -> Array:
        squares = squared_distances(rows, points)
        other = real & (jnp.arange(points.shape[0]) != own[:, None].astype(jnp.int32))
        nearest, index = jax.lax.top_k(-jnp.where(other, squares, jnp.inf), neighbours.shape[0])
        weights = _weights(jnp.sqrt(-nearest), perplexity)
        share = (weights * first[index]).sum(1)
        return 1 / (share**2 + (1 - share) ** 2)

    return map_row_blocks(block, points, jnp.arange(points.shape[0]))


def _weights(distances: Float[Array, "R K"], perplexity: Float[Array, ""]) -> Float[Array, "R K"]:
    """exp(-beta d), normalised, with beta found per row so that the entropy is log(perplexity)."""
    shifted = distances - distances[:, :1]  # the nearest first: shifts change no weight
    shifted /= jnp.maximum(shifted.mean(1, keepdims=True), 1e-12)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds  # log beta; entropy falls with beta
        middle = (low + high) / 2
        log_weights = jax.nn.log_softmax(-jnp.exp(middle)[:, None] * shifted, axis=1)
        too_flat = -(jnp.exp(log_weights) * log_weights).sum(1) > jnp.log(perplexity)
        return jnp.where(too_flat, middle, low), jnp.where(too_flat, high, middle)

    start = jnp.full(distances.shape[:1], -15.0), jnp.full(distances.shape[:1], 15.0)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, start)
    return jax.nn.softmax(-jnp.exp((low + high) / 2)[:, None] * shifted, axis=1)
