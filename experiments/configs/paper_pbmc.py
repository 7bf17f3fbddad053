"""The paper's unconditional PBMC: the untreated cells of the Parse 10M PBMC set, whole cells drawn in 256 steps.

    lingshu inspect parse_10m_pbmc.h5ad
    lingshu ingest controls.yaml --out STORE --columns.context donor,cell_type
    lingshu train paper-pbmc --store STORE
    lingshu evaluate RUN --whole --n 10000

The file is `DATA`; `controls.yaml` is a manifest that keeps its untreated cells, `keep: {cytokine: [PBS]}`
(docs/data.md). Cost: a pod's; `--dry-run` prints parameters and memory on any machine. Expected: the paper's table
(section 7): MMD .0088, 1-Wasserstein .0064, iLISI .91; compare only on equal numbers of cells, by one definition.
"""

import dataclasses

from data_pipelines.columns import Columns
from experiments.configs import paper_s8
from experiments.experiment import DataConfig, Experiment
from experiments.real_cells.task import DataSet
from lingshu_jax.diffusion import CosineSchedule, SamplerConfig

DATA = DataSet(
    file="parse_10m_pbmc.h5ad",
    columns=Columns(context=("donor", "cell_type")),
    about="untreated PBMC of 12 donors, of 10 million cells in all; labels serve the evaluation alone",
    source="Parse Biosciences, 10 million human PBMC in a single experiment",
)


def experiment() -> Experiment:
    """paper-s8, told nothing of a cell, with the paper's 256 cosine steps."""
    return dataclasses.replace(
        paper_s8.experiment(),
        name="paper-pbmc",
        data=DataConfig(context=False, perturbation=False, numbers=False),
        sampler=SamplerConfig(schedule=CosineSchedule(steps=256)),
    )
