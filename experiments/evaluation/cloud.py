"""Cells as clouds of points: joint principal components, and distances per perturbation on them."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from experiments.evaluation.cells import Sparse
from experiments.evaluation.held_out import Condition, HeldOut
from lingshu_jax.evaluation import energy_distance, mmd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.evaluation.baselines import Baseline
    from experiments.evaluation.effects import Generated

COMPONENTS = 50
_GENES_TOGETHER = 1_024
_ALL_VECTORS = 500
"""Cells up to which a full decomposition is faster than an iterative one."""
CLOUD_CELLS = 200
"""At most this many cells a side enter the distances of a condition."""
CLOUD_BASELINES = ("no_change", "mean_effect (sampled)")
"""Baselines whose cells are compared too."""


def joint_components(parts: list[Sparse], *, components: int = COMPONENTS, seed: int = 0) -> list[np.ndarray]:
    """Centred principal components fitted on all parts together.

    Args:
        parts: (n_i, G) log expression each.
        components: wanted; no more than the cells and genes allow.
        seed: of the solver's start.

    Returns:
        (n_i, components) coordinates of each part.
    """
    joint: Sparse = scipy.sparse.vstack(parts, format="csc")
    n, wanted = joint.shape[0], min(components, min(joint.shape) - 1)
    products = _products(joint)
    products -= products.mean(0)
    products -= products.mean(1, keepdims=True)
    if n > _ALL_VECTORS:
        start = np.random.default_rng(seed).normal(size=n)
        values, vectors = scipy.sparse.linalg.eigsh(products, wanted, v0=start)
    else:
        values, vectors = scipy.linalg.eigh(products, subset_by_index=[n - wanted, n - 1])
    order = np.argsort(-values)
    points = vectors[:, order] * np.sqrt(np.maximum(values[order], 0.0))
    return np.split(points, np.cumsum([part.shape[0] for part in parts])[:-1])


def _products(cells: Sparse) -> np.ndarray:
    """float64 (n, n): products of every two cells. Their eigenvectors are the components, exactly, and as long as there
    are fewer cells than genes they are far faster."""
    products = np.zeros((cells.shape[0], cells.shape[0]))
    for start in range(0, cells.shape[1], _GENES_TOGETHER):
        block = cells[:, start : start + _GENES_TOGETHER].toarray().astype(np.float32)
        products += block @ block.T
    return products


def cloud_distances(
    held_out: HeldOut,
    generated: "Generated",
    baselines: "Sequence[Baseline]",
    condition: Condition,
    rng: np.random.Generator,
    left_out: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Energy distance and MMD of one condition's real cells to generated ones, baselines' ones, and each other.

    All on joint principal components, at equal numbers of cells: half of the real cells against the other half, as
    many generated ones, as many of each baseline of CLOUD_BASELINES. Genes that are left out, bool (G,), are not
    looked at.

    Returns:
        Method -> metric -> value; {} with too few cells.
    """
    real = held_out.cells[condition]
    order = rng.permutation(len(real))
    n = min(len(real) // 2, generated.n(condition), CLOUD_CELLS)
    if n < 5:
        return {}
    drawn = rng.permutation(generated.n(condition))[:n]
    target = held_out.target_sum
    parts = {
        "reference": real.take(order[:n]).log_expression(target),
        "real vs real": real.take(order[n : 2 * n]).log_expression(target),
        "model": generated.take(condition).take(drawn).log_expression(target),
    }
    for baseline in baselines:
        cells = baseline.sample(*condition, n, rng) if baseline.name in CLOUD_BASELINES else None
        if cells is not None:
            parts[baseline.name] = cells.log_expression(target)
    if left_out is not None:
        parts = {name: part[:, ~left_out] for name, part in parts.items()}
    points = dict(zip(parts, joint_components(list(parts.values()), components=20), strict=True))
    reference = points.pop("reference")
    return {
        name: {"energy_distance": energy_distance(cloud, reference), "mmd": mmd(cloud, reference)}
        for name, cloud in points.items()
    }
