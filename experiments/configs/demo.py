"""The demo: a simulated perturb-seq screen with planted truth, and held-out (context, perturbation) pairs.

    make demo

Cost: minutes on 2 CPU cores. Expected, on held-out pairs: PDS above `mean_effect` by at least 0.2, Pearson-delta within
0.05 of `perturbation_transfer`, the sign of at least 90 % of the strong planted effects right.
"""

import dataclasses

from experiments.configs.sizes import DataShape, sized_experiment
from experiments.experiment import Experiment
from lingshu_jax.training.config import OptimizerConfig


def experiment() -> Experiment:
    """A tiny model for the panel of `simulate_screen`."""
    base = sized_experiment("demo", "tiny", DataShape(cells=6_000, genes=1_000))
    return dataclasses.replace(
        base,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=50),
        training=dataclasses.replace(base.training, steps=2_000, evaluate_every=200, save_every=200),
    )
