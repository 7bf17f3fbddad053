"""The paper's genetic perturbations: H1 cells of the Virtual Cell Challenge 2025, guidance w = 2.

    lingshu inspect vcc_h1.h5ad
    lingshu ingest vcc_h1.h5ad others/*.h5ad --out STORE --columns.context cell_line \\
      --columns.perturbation target_gene --columns.control non-targeting --columns.batch batch
    lingshu split STORE --name h1 --kind toml --toml h1.toml --column cell_line
    lingshu train paper-vcc-h1 --store STORE --data.split h1
    lingshu evaluate RUN --whole --prior paper

The files are `DATA` and, as in the paper, other screens limited to its targets; `h1.toml` lists the targets that are
held out in H1, in STATE's format (docs/data.md). Cost: a pod's; `--dry-run` prints parameters and memory on any
machine. Expected: the paper's columns (section 7): DES .216, PDS .748, MAE .052, Spearman #DEG .394, Spearman LFC .331,
AUPRC .272, Pearson-delta .306.
"""

import dataclasses

from data_pipelines.columns import Columns
from experiments.configs import paper_s32
from experiments.experiment import Experiment
from experiments.real_cells.task import DataSet

DATA = DataSet(
    file="vcc_h1.h5ad",
    columns=Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",), batch="batch"),
    about="H1 cells, 150 targets for training, 50 for validation and 100 for the test, 18,080 genes",
    source="Arc Institute, Virtual Cell Challenge 2025",
)


def experiment() -> Experiment:
    """paper-s32: 32 genes per patch, three cosine steps, w = 2 against non-targeting."""
    return dataclasses.replace(paper_s32.experiment(), name="paper-vcc-h1")
