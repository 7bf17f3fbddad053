"""THP-1 knock-outs (14,046 cells, 299 genes, 23 targets): new cells of known targets, and targets left out one by one.

    lingshu train thp1-crispr-ko --store STORE             # also: ...-unlabelled, ...-targets
    lingshu results --data DATA --only thp1-crispr-ko thp1-crispr-ko-unlabelled thp1-crispr-ko-targets

STORE has the context `cell_line`, the perturbation `target_gene` (control `non-targeting`) and the batch `replicate`.
Cost: about 6 minutes on 2 CPU cores; targets is eight runs of 4 minutes, one per target that is in the panel and so has
co-expression features. Expected, on held-out cells: Pearson-delta of STAT1, IFNGR1, JAK2 and SMAD4 at least .9 of that
of the mean of their training cells, and above `mean_effect` when the mean effect is taken from both sides.
"""

import dataclasses

from data_pipelines.columns import Columns
from data_pipelines.held_out import HeldOutPerturbations
from experiments.configs.sizes import DataShape, sized_experiment, without_labels
from experiments.experiment import Experiment
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.seen import SeenEffects
from experiments.real_cells.targets import LeftOutTargets
from experiments.real_cells.task import DataSet, LastStep, NamedSplit, Task
from lingshu_jax.model import TargetFeatures

DATA = DataSet(
    file="thp1_crispr_ko.h5ad",
    columns=Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",), batch="replicate"),
    about="THP-1 cells with 23 genes knocked out one by one, 14,046 cells x 299 genes",
    source="R package sceptredata",
)
IN_PANEL = ("STAT1", "STAT2", "STAT3", "JAK2", "NFKBIA", "CMTM6", "UBE2L6", "TNFRSF14")
"""Targets that are among the genes: only these have co-expression features."""
OTHERS = (
    "ATF2", "BRD4", "CAV1", "CD86", "CUL3", "ETV7", "IFNGR1", "IRF7", "MARCH8", "MYC", "PDCD1LG2", "POU2F2", "SMAD4",
    "SPI1", "STAT5A",
)  # fmt: skip


def _without(target: str) -> NamedSplit:
    kind = HeldOutPerturbations(perturbations=(target,), val=0.0, control_val=0.0)
    return NamedSplit(name=f"without-{target}", kind=kind)


BESIDE = ("ridge_pca", "mean_effect", "real vs real")
TASKS = (
    Task(
        experiment="thp1-crispr-ko",
        data=DATA,
        reads=(Bounds(), SeenEffects(strong=("STAT1", "IFNGR1", "JAK2", "SMAD4"))),
        evaluation=("--min-cells", "10"),  # SPI1 has as few: PDS is over all targets
    ),
    Task(experiment="thp1-crispr-ko-unlabelled", data=DATA, reads=(Bounds(),)),
    Task(
        experiment="thp1-crispr-ko-targets",
        data=DATA,
        splits=tuple(_without(target) for target in IN_PANEL),
        reads=(
            LeftOutTargets(
                columns=(("pearson_delta", BESIDE), ("pearson_residual", BESIDE), ("pds", BESIDE)), refused=OTHERS
            ),
        ),
        stop=LastStep(),
        evaluation=("--unseen", "features"),
    ),
)


def experiment() -> Experiment:
    """A tiny model that is told the knocked-out gene."""
    return sized_experiment("thp1-crispr-ko", "tiny", DataShape(cells=14_046, genes=299), steps=3_000)


def unlabelled() -> Experiment:
    """The same, told nothing of a cell."""
    return without_labels(experiment(), "thp1-crispr-ko-unlabelled")


def targets() -> Experiment:
    """A shorter training that is told features of the targets."""
    base = sized_experiment("thp1-crispr-ko-targets", "tiny", DataShape(cells=14_046, genes=299), steps=1_500)
    return dataclasses.replace(base, model=dataclasses.replace(base.model, features=TargetFeatures()))
