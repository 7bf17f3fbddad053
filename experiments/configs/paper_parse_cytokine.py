"""The paper's cytokines: PBMC of 12 donors under 90 cytokines, 70 % of four donors' cytokines held out, guidance w = 3.

    lingshu inspect parse_10m_pbmc.h5ad
    lingshu ingest parse_10m_pbmc.h5ad --out STORE --columns.context donor \\
      --columns.perturbation cytokine --columns.control PBS
    lingshu split STORE --name donors --kind contexts --column donor --test 0.34 --share 0.7
    lingshu train paper-parse-cytokine --store STORE --data.split donors
    lingshu evaluate RUN --whole --no-target-genes

The file is `DATA`. Cost: a pod's; `--dry-run` prints parameters and memory on any machine. Expected: average score,
DES, PDS, Spearman #DEG and Pearson-delta above those of the mean effect; a worse MAE than a constant mean has.
"""

import dataclasses

from data_pipelines.columns import Columns
from experiments.configs import paper_s8
from experiments.experiment import Experiment
from experiments.real_cells.task import DataSet
from lingshu_jax.diffusion import ControlGuidance

DATA = DataSet(
    file="parse_10m_pbmc.h5ad",
    columns=Columns(context=("donor",), perturbation="cytokine", control=("PBS",)),
    about="PBMC of 12 donors x 90 cytokines and PBS, 10 million cells",
    source="Parse Biosciences, 10 million human PBMC in a single experiment",
)


def experiment() -> Experiment:
    """paper-s8 with w = 3 against PBS."""
    base = paper_s8.experiment()
    guidance = ControlGuidance(scale=3.0, mixed=0.0)
    sampler = dataclasses.replace(base.sampler, guidance=guidance)
    return dataclasses.replace(base, name="paper-parse-cytokine", sampler=sampler)
