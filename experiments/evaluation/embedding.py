"""One UMAP of real and generated cells together, for the side-by-side picture."""

import warnings

import numpy as np
import scipy.sparse

from experiments.evaluation.cells import Cells
from experiments.evaluation.cloud import joint_components
from experiments.evaluation.extras import extra

MOST_CELLS = 2_000
"""Cells a side."""
SCALE = 1e4


def joint_umap(real: Cells, generated: Cells, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 2) of real and of generated cells: joint principal components, neighbours, UMAP (scanpy).

    Args:
        real: the first MOST_CELLS are drawn.
        generated: the same.
        seed: of the layout.
    """
    anndata, scanpy = extra("anndata"), extra("scanpy")
    sides = [cells.take(np.arange(min(len(cells), MOST_CELLS))).log_expression(SCALE) for cells in (real, generated)]
    points = joint_components(sides, components=min(50, min(len(real), len(generated))), seed=seed)
    joint = np.concatenate(points).astype(np.float32)
    data = anndata.AnnData(scipy.sparse.csr_matrix((len(joint), 1), dtype=np.float32), obsm={"X_pca": joint})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy and umap announce their own deprecations
        scanpy.pp.neighbors(data, use_rep="X_pca", n_neighbors=min(15, len(joint) - 1), random_state=seed)
        scanpy.tl.umap(data, random_state=seed)
    first, second = np.split(np.asarray(data.obsm["X_umap"], np.float32), [len(points[0])])
    return first, second
