"""1-Wasserstein distance between two sets of points: by Sinkhorn iterations, and sliced.

N, M points of the two sets, D dimensions
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from lingshu_jax.evaluation.pairwise import map_row_blocks, padded, squared_distances

_ANNEALED = 100
_SETTLED = 200


def sinkhorn_wasserstein(x: np.ndarray, y: np.ndarray, *, epsilon: float = 0.005) -> float:
    """1-Wasserstein distance with Euclidean cost by entropic transport: the cost of the plan, entropy not counted.

    300 log-domain iterations; the entropy weight falls geometrically from the mean cost to `epsilon` times it. Within
    2 % of the exact distance on cells at 50 dimensions: entropy raises it, the plan's last marginal error lowers it.
    Costs are recomputed in blocks of rows, so memory stays linear in N. Like every W1 of samples it depends on N.

    Args:
        x: (n, D) points.
        y: (m, D) points.
        epsilon: final entropy weight, as a share of the mean cost.

    Returns:
        The distance, in units of the points.

    Raises:
        ValueError: a set is empty or the sets differ in dimension.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not len(x) or not len(y) or x.shape[1:] != y.shape[1:]:
        raise ValueError(f"two sets of points (n, D) and (m, D) are compared, got shapes {x.shape} and {y.shape}.")
    centre = np.concatenate([x, y]).mean(0)
    log_a, log_b = _log_uniform(len(x)), _log_uniform(len(y))
    return float(_sinkhorn(padded(x - centre), padded(y - centre), log_a, log_b, epsilon))


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, key: Array, *, projections: int = 256) -> float:
    """Mean over random directions of the exact 1-Wasserstein distance of the projections (equal numbers of points).

    Not comparable with the unsliced distance: it is smaller by about the share of one direction in the whole.

    Raises:
        ValueError: the sets differ in number or dimension.
    """
    if x.shape != y.shape:
        raise ValueError(f"sliced distances are taken at equal numbers of points, got shapes {x.shape} and {y.shape}.")
    directions = jax.random.normal(key, (x.shape[1], projections))
    directions /= jnp.linalg.norm(directions, axis=0)
    sides = [jnp.sort(jnp.asarray(side, jnp.float32) @ directions, axis=0) for side in (x, y)]
    return float(jnp.abs(sides[0] - sides[1]).mean())


def _log_uniform(n: int) -> np.ndarray:
    weights = padded(np.full(n, 1 / n))
    return np.log(weights, out=np.full_like(weights, -np.inf), where=weights > 0)


@jax.jit
def _sinkhorn(
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    log_a: Float[Array, " N"],
    log_b: Float[Array, " M"],
    epsilon: Float[Array, ""],
) -> Float[Array, ""]:
    a, b = jnp.exp(log_a), jnp.exp(log_b)

    def cost(rows: Array, points: Array) -> Array:
        return jnp.sqrt(squared_distances(rows, points))

    def potential(of: Array, points: Array, other: Array, log_weights: Array, weight: Array) -> Array:
        def block(rows: Array) -> Array:
            return -weight * logsumexp((other - cost(rows, points)) / weight + log_weights, axis=1)

        return map_row_blocks(block, of)

    mean_cost = a @ map_row_blocks(lambda rows: cost(rows, y) @ b, x)
    mean_cost = jnp.maximum(mean_cost, 1e-12)

    def iterate(step: Array, potentials: tuple[Array, Array]) -> tuple[Array, Array]:
        f, g = potentials
        weight = mean_cost * jnp.maximum(epsilon, epsilon ** ((step + 1) / _ANNEALED))
        # Averaging the two sides' updates would converge slower; alternate, rows last, so row marginals are exact.
        g = potential(y, x, f, log_a, weight)
        return potential(x, y, g, log_b, weight), g

    start = jnp.zeros(x.shape[0]), jnp.zeros(y.shape[0])
    f, g = jax.lax.fori_loop(0, _ANNEALED + _SETTLED, iterate, start)

    def transported(rows: Array, f_rows: Array, log_a_rows: Array) -> Array:
        costs = cost(rows, y)
        plan = jnp.exp((f_rows[:, None] + g - costs) / (mean_cost * epsilon) + log_a_rows[:, None] + log_b)
        return (plan * costs).sum(1)

    return map_row_blocks(transported, x, f, log_a).sum()
