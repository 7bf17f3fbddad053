"""Energy distance between two sets of points."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lingshu_jax.evaluation.pairwise import pooled_with_signs, quadratic_form


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| with Euclidean norms: the biased V-statistic, not its square root.

    Args:
        x: (n, D) points.
        y: (m, D) points.

    Returns:
        A number >= 0 (up to rounding); 0 for identical sets.

    Raises:
        ValueError: a set is empty or the sets differ in dimension.
    """
    return float(_energy(*pooled_with_signs(x, y)))


@jax.jit
def _energy(points: Float[Array, "N D"], weights: Float[Array, " N"]) -> Float[Array, ""]:
    return -quadratic_form(jnp.sqrt, points, weights)
