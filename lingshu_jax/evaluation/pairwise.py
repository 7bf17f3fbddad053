"""Sums over all pairs of points, computed in blocks of rows so that no N x N array exists.

N points, D dimensions, R rows of a block
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

ROWS = 256
"""Rows of one block; point sets are padded to a multiple of it, so that few shapes are ever compiled."""


def squared_distances(rows: Float[Array, "R D"], points: Float[Array, "N D"]) -> Float[Array, "R N"]:
    """Squared Euclidean distance of every row to every point, never below 0."""
    product = jnp.einsum("rd,nd->rn", rows, points, precision=jax.lax.Precision.HIGHEST)
    squares = (rows**2).sum(-1)[:, None] + (points**2).sum(-1)[None, :]
    return jnp.maximum(squares - 2 * product, 0.0)


def map_row_blocks(function: Callable, *arrays: Float[Array, "N ..."]) -> Float[Array, "N ..."]:
    """Apply `function` to blocks of ROWS rows of the arrays, one after the other; N must be a multiple of ROWS."""
    blocks = tuple(array.reshape(-1, ROWS, *array.shape[1:]) for array in arrays)
    result = jax.lax.map(lambda block: function(*block), blocks)
    return result.reshape(-1, *result.shape[2:])


def padded(points: np.ndarray) -> np.ndarray:
    """Rows of zeros appended up to a multiple of ROWS, as float32."""
    points = np.asarray(points, np.float32)
    return np.concatenate([points, np.zeros((-len(points) % ROWS, *points.shape[1:]), np.float32)])


def pooled_with_signs(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as one centred, padded array (N, D), and weights (N,): 1/n for x, -1/m for y, 0 for padding.

    With these weights w, a two-sample V-statistic of a kernel K is the quadratic form w' K w.

    Raises:
        ValueError: a set is empty or the sets differ in dimension.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not len(x) or not len(y) or x.ndim != 2 or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"two sets of points (n, D) and (m, D) are compared, got shapes {x.shape} and {y.shape}.")
    points = np.concatenate([x, y])
    # Centring keeps |a|^2 + |b|^2 - 2ab from cancelling in float32; distances do not change.
    weights = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    return padded(points - points.mean(0)), padded(weights)


def quadratic_form(
    kernel: Callable[[Array], Array], points: Float[Array, "N D"], weights: Float[Array, " N"]
) -> Float[Array, ""]:
    """w' K w for K = kernel(squared distances of all pairs)."""

    def row_sums(rows: Array) -> Array:
        return kernel(squared_distances(rows, points)) @ weights

    return weights @ map_row_blocks(row_sums, points)
