"""Cells as clouds of points: joint principal components, and distances per perturbation on them."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse

from experiments.evaluation.cells import Sparse
from experiments.evaluation.extras import extra
from experiments.evaluation.held_out import Condition, HeldOut
from lingshu_jax.evaluation import energy_distance, mmd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.evaluation.baselines import Baseline
    from experiments.evaluation.effects import Generated

COMPONENTS = 50
_GRAM_CELLS = 2_000
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
    joint: Sparse = scipy.sparse.vstack(parts, format="csr")
    wanted = min(components, min(joint.shape) - 1)
    edges = np.cumsum([part.shape[0] for part in parts])[:-1]
    if joint.shape[0] > _GRAM_CELLS:
        pca = extra("sklearn.decomposition").PCA(wanted, svd_solver="arpack", random_state=seed)
        return np.split(pca.fit_transform(joint), edges)
    # For few cells the eigenvectors of the centred cell-by-cell products are exact and far faster.
    products = (joint @ joint.T).toarray()
    products -= products.mean(0)
    products -= products.mean(1, keepdims=True)
    n = len(products)
    values, vectors = scipy.linalg.eigh(products, subset_by_index=[n - wanted, n - 1])
    return np.split((vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1], edges)


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
