"""Generate cells of one's own data, by context (cell type, donor, ...) where the store names context columns.

    lingshu train cells --store STORE [--size tiny|small|base]

Cost: tiny takes about 10 minutes on 2 CPU cores at 17,000 genes, less on narrower panels. Expected: a held-out bound
below the NB-with-depth baseline.
"""

import dataclasses

from experiments.configs.sizes import DataShape, Size, sized_experiment
from experiments.experiment import DataConfig, Experiment


def sized(size: Size | None, shape: DataShape) -> Experiment:
    """Conditions on context columns only."""
    return dataclasses.replace(sized_experiment("cells", size, shape), data=DataConfig(perturbation=False))
