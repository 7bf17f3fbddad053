"""PBMC with and without interferon-beta (2,000 cells, 9,015 genes), half of them of unknown type and donor.

    lingshu train pbmc-ifnb-9k-genes --store STORE
    lingshu results --data DATA --only pbmc-ifnb-9k-genes

STORE has the context `cell_type`, where 'unknown' is a label like any other, and the perturbation `condition` (control
`ctrl`). Cost: about 10 minutes on 2 CPU cores. Expected: a held-out bound below NB with depth per label. Effects are
not read: of most known types the test has fewer than 30 cells.
"""

from data_pipelines.columns import Columns
from experiments.configs.sizes import DataShape, sized_experiment
from experiments.experiment import Experiment
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.task import DataSet, Task

DATA = DataSet(
    file="pbmc_ifnb_9k_genes.h5ad",
    columns=Columns(context=("cell_type",), perturbation="condition", control=("ctrl",), batch="donor"),
    about="PBMC with and without interferon-beta, half of them unlabelled, 2,000 cells x 9,015 genes",
    source="R package harmony",
)
TASKS = (Task(experiment="pbmc-ifnb-9k-genes", data=DATA, reads=(Bounds(),), evaluation=("--n", "match")),)


def experiment() -> Experiment:
    """A tiny model that is told type and treatment."""
    return sized_experiment("pbmc-ifnb-9k-genes", "tiny", DataShape(cells=2_000, genes=9_015), steps=600)
