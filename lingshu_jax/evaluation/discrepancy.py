"""Maximum mean discrepancy with several Gaussian kernels (the paper's MMD)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lingshu_jax.evaluation.pairwise import pooled_with_signs, quadratic_form


def mmd(x: np.ndarray, y: np.ndarray, *, bandwidths: int = 5, factor: float = 2.0) -> float:
    """Squared MMD of two point sets: the biased V-statistic, not its square root.

    mean K(x, x') + mean K(y, y') - 2 mean K(x, y), diagonal included, with K(a, b) the *sum* over `bandwidths` kernels
    exp(-|a - b|^2 / s), where s = factor ** i times the mean squared distance of two different pooled points, and i
    runs over -2..2 for five bandwidths. This is the multi-kernel MMD that generative models of cells report.

    Args:
        x: (n, D) points, here principal components of cells.
        y: (m, D) points; take n = m, because the value depends on both.
        bandwidths: number of kernels.
        factor: ratio of neighbouring bandwidths.

    Returns:
        A number >= 0 (up to rounding); 0 for identical sets, about `bandwidths` (1/n + 1/m) at least for two samples
        of one distribution.

    Raises:
        ValueError: a set is empty or the sets differ in dimension.
    """
    points, weights = pooled_with_signs(x, y)
    n = len(x) + len(y)
    pooled = points[:n].astype(np.float64)  # centred, so the mean squared distance needs no pairs
    mean_square = 2 * n * (pooled**2).sum() / (n * (n - 1))
    scales = mean_square * factor ** (np.arange(bandwidths) - bandwidths // 2)
    if mean_square == 0:
        return 0.0
    return float(_mmd(points, weights, scales.astype(np.float32)))


@jax.jit
def _mmd(points: Float[Array, "N D"], weights: Float[Array, " N"], scales: Float[Array, " K"]) -> Float[Array, ""]:
    def kernel(squares: Array) -> Array:
        return sum((jnp.exp(-squares / scales[k]) for k in range(scales.shape[0])), start=jnp.zeros(()))

    return quadratic_form(kernel, points, weights)
