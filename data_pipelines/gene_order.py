"""An order of genes in which neighbours are co-expressed in training controls."""

from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.derived import coexpression_features
from data_pipelines.progress import Progress, silent
from data_pipelines.splits import Split

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# G genes, K features


def coexpression_order(store: "CellStore", split: Split, *, group: int, progress: Progress = silent) -> np.ndarray:
    """Genes such that each run of `group` of them, from the first, varies together.

    Directions of the genes' co-expression features are halved along their main axis, and halves again, at multiples
    of `group`. Genes without any co-expression lie in the middle of every axis.

    Args:
        store: of the cells.
        split: of the store; its training controls tell, all training cells where there is no perturbation.
        group: genes that are to lie together, >= 1.
        progress: told of passes over the controls.

    Returns:
        int32 (G,): panel positions in their order.

    Raises:
        InputError: there are fewer than two control cells in training.
    """
    features = coexpression_features(store, split, progress=progress).astype(np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return _halved(features / np.maximum(length, 1e-12), np.arange(len(features), dtype=np.int32), group)


def _halved(directions: np.ndarray, genes: np.ndarray, group: int) -> np.ndarray:
    """These genes in order: directions (G, K), genes (n,)."""
    if len(genes) <= group:
        return genes
    mine = directions[genes]
    axis = np.linalg.svd(mine - mine.mean(0), full_matrices=False)[2][0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    ordered = genes[np.argsort(mine @ axis, kind="stable")]
    middle = max(round(len(genes) / 2 / group), 1) * group
    return np.concatenate([_halved(directions, ordered[:middle], group), _halved(directions, ordered[middle:], group)])
