"""The named experiments, one file each; its docstring gives the command, the cost and the expected result."""

import importlib

from data_pipelines.errors import InputError
from experiments.configs.sizes import DataShape, Size
from experiments.experiment import Experiment
from lingshu_jax.vocabulary import nearest

# Name -> module, or module.function where a file has several experiments on the same data.
EXPERIMENTS = {
    "demo": "demo",
    "cells": "cells",
    "perturb": "perturb",
    "pbmc-sorted": "pbmc_sorted",
    "pbmc-sorted-unlabelled": "pbmc_sorted.unlabelled",
    "pbmc-ifnb-two-donors": "pbmc_ifnb_two_donors",
    "pbmc-ifnb-two-donors-unlabelled": "pbmc_ifnb_two_donors.unlabelled",
    "pbmc-ifnb-two-donors-held-out": "pbmc_ifnb_two_donors.held_out",
    "four-cell-lines": "four_cell_lines",
    "four-cell-lines-unlabelled": "four_cell_lines.unlabelled",
    "thp1-crispr-ko": "thp1_crispr_ko",
    "thp1-crispr-ko-unlabelled": "thp1_crispr_ko.unlabelled",
    "thp1-crispr-ko-targets": "thp1_crispr_ko.targets",
    "pbmc3k": "pbmc3k",
    "mouse-10k": "mouse_10k",
    "worm-embryo-neurons": "worm_embryo_neurons",
    "glioma-panobinostat": "glioma_panobinostat",
    "pbmc-ifnb-9k-genes": "pbmc_ifnb_9k_genes",
    "paper-s8": "paper_s8",
    "paper-s32": "paper_s32",
    "paper-pbmc": "paper_pbmc",
    "paper-tissues": "paper_tissues",
    "paper-vcc-h1": "paper_vcc_h1",
    "paper-parse-cytokine": "paper_parse_cytokine",
}


def check_name(name: str) -> str:
    """The name itself.

    Raises:
        InputError: there is no such experiment.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment {name!r} (nearest: {nearest(name, EXPERIMENTS)}).")
    return name


def load_experiment(name: str, *, size: Size | None = None, shape: DataShape | None = None) -> Experiment:
    """The experiment of this name.

    Args:
        name: one of `EXPERIMENTS`.
        size: model size, for experiments on one's own data; None chooses by device and data.
        shape: how large the data are; None takes the paper's panel.

    Raises:
        InputError: there is no such experiment, or it has one size only.
    """
    file, _, function = EXPERIMENTS[check_name(name)].partition(".")
    module = importlib.import_module(f"experiments.configs.{file}")
    if hasattr(module, "sized"):
        return module.sized(size, shape or DataShape())
    if size is not None:
        raise InputError(f"experiment {name!r} has one size; leave --size out, or train 'cells' or 'perturb'.")
    return getattr(module, function or "experiment")()
