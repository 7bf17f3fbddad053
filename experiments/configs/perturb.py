"""Predict how cells of one's own screen respond to perturbations, by context where the store names context columns.

    lingshu train perturb --store STORE [--size tiny|small|base]

Cost: tiny takes about 5 minutes on 2 CPU cores at 1,300 genes. Expected: above `mean_effect` on held-out conditions;
the report shows the stronger baselines beside it.
"""

from experiments.configs.sizes import DataShape, Size, sized_experiment
from experiments.experiment import Experiment


def sized(size: Size | None, shape: DataShape) -> Experiment:
    """Conditions on context and perturbation columns."""
    return sized_experiment("perturb", size, shape)
