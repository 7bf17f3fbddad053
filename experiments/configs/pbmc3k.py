"""PBMC with the full 10x gene list (2,700 cells, 32,738 genes), without labels.

    lingshu train pbmc3k --store STORE
    lingshu results --data DATA --only pbmc3k

Cost: about 25 minutes on 2 CPU cores. Expected: a held-out bound below NB with depth.
"""

from data_pipelines.columns import Columns
from experiments.configs.sizes import DataShape, sized_experiment
from experiments.experiment import Experiment
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.populations import Populations
from experiments.real_cells.task import DataSet, Task

DATA = DataSet(
    file="pbmc3k.h5ad",
    columns=Columns(),
    about="PBMC of one donor with the full gene list, 2,700 cells x 32,738 genes",
    source="R package countsplit.tutorials",
)
TASKS = (Task(experiment="pbmc3k", data=DATA, reads=(Bounds(), Populations())),)


def experiment() -> Experiment:
    """A tiny model for the whole panel."""
    return sized_experiment("pbmc3k", "tiny", DataShape(cells=2_700, genes=32_738), steps=500)
