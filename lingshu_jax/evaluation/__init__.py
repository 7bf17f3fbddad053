"""Distances between two sets of cells, on arrays only: what the evaluation of generated cells is computed from.

Importing this package imports no jax; the functions are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingshu_jax.evaluation.discrepancy import mmd
    from lingshu_jax.evaluation.energy import energy_distance
    from lingshu_jax.evaluation.lisi import ilisi
    from lingshu_jax.evaluation.marginals import (
        correlation_error,
        ks_distance,
        mean_pearson,
        mean_spearman,
        pearson,
        spearman,
    )
    from lingshu_jax.evaluation.wasserstein import sinkhorn_wasserstein, sliced_wasserstein

_HOME = {
    "correlation_error": "marginals",
    "energy_distance": "energy",
    "ilisi": "lisi",
    "ks_distance": "marginals",
    "mean_pearson": "marginals",
    "mean_spearman": "marginals",
    "mmd": "discrepancy",
    "pearson": "marginals",
    "sinkhorn_wasserstein": "wasserstein",
    "sliced_wasserstein": "wasserstein",
    "spearman": "marginals",
}
__all__ = [
    "correlation_error",
    "energy_distance",
    "ilisi",
    "ks_distance",
    "mean_pearson",
    "mean_spearman",
    "mmd",
    "pearson",
    "sinkhorn_wasserstein",
    "sliced_wasserstein",
    "spearman",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
