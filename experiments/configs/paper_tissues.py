"""The paper's tissues and species, unconditional: one store and one run of this experiment for each of them.

    lingshu inspect lung.h5ad
    lingshu ingest lung.h5ad --out STORE --columns.context cell_type --columns.batch donor_id
    lingshu train paper-tissues --store STORE --run lung
    lingshu evaluate RUN --whole --n 10000

The files are `DATA`: in CELLxGENE's own, raw counts lie in `raw.X` (found, and said) and genes are Ensembl ids. Cost: a
pod's; `--dry-run --store STORE` prints parameters and memory for the panel on any machine. Expected: gene means that
correlate above .99 (independent genes do too), and distances near those of two halves of the real cells.
"""

import dataclasses

from data_pipelines.columns import Columns
from experiments.configs import paper_pbmc
from experiments.experiment import Experiment
from experiments.real_cells.task import DataSet

DATA = DataSet(
    file="TISSUE.h5ad",
    columns=Columns(context=("cell_type",), batch="donor_id"),
    about="human neocortex, heart, lung, colon and more; mouse ovary, macaque lung, zebrafish embryo, fly brain",
    source="CELLxGENE Discover; the other species with their papers",
)


def experiment() -> Experiment:
    """paper-pbmc under another name: it is told nothing of a cell, and its panel is the store's."""
    return dataclasses.replace(paper_pbmc.experiment(), name="paper-tissues")
