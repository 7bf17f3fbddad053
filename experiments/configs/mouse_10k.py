"""Ten thousand mouse cells on 1,000 genes, without labels.

    lingshu train mouse-10k --store STORE
    lingshu results --data DATA --only mouse-10k

Cost: about 8 minutes on 2 CPU cores. Expected: a held-out bound below NB with depth.
"""

from data_pipelines.columns import Columns
from experiments.configs.sizes import DataShape, sized_experiment
from experiments.experiment import Experiment
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.populations import Populations
from experiments.real_cells.task import DataSet, Task

DATA = DataSet(
    file="mouse_10k.h5ad",
    columns=Columns(),
    about="mouse cells, 10,000 cells x 1,000 genes",
    source="Python package scanpy",
)
TASKS = (Task(experiment="mouse-10k", data=DATA, reads=(Bounds(), Populations())),)


def experiment() -> Experiment:
    """A tiny model that is told nothing of a cell."""
    return sized_experiment("mouse-10k", "tiny", DataShape(cells=10_000, genes=1_000), steps=2_000)
