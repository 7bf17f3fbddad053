"""What an experiment would train: parameters by part, positions, bytes; no array is made."""

import functools
import math

import jax
from flax import nnx

from experiments.configs.sizes import DataShape
from experiments.experiment import Experiment
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import Denoiser

ADAM_COPIES = 4
"""Parameters, moving average, and two moments, each fp32."""


def parameter_counts(experiment: Experiment, genes: int) -> dict[str, int]:
    """Number of weights in each part of the denoiser."""
    layout = GeneLayout.random(genes, experiment.model.genes_per_patch, seed=experiment.seed)
    build = functools.partial(Denoiser, experiment.model, layout)
    params = jax.eval_shape(lambda: nnx.state(build(rngs=nnx.Rngs(params=0)), nnx.Param))
    return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for name, part in params.items()}


def describe_model(experiment: Experiment, shape: DataShape | None) -> str:
    """Lines for `lingshu train EXPERIMENT --dry-run`."""
    genes = (shape or DataShape()).genes
    counts = parameter_counts(experiment, genes)
    patches = -(-genes // experiment.model.genes_per_patch)
    total = sum(counts.values())
    lines = [
        f"experiment {experiment.name}: {genes:,} genes in {patches:,} patch positions of "
        f"{experiment.model.genes_per_patch} genes, width {experiment.model.width}"
    ]
    lines += [f"  {name:<16} {count:>12,} weights ({count / 1e6:.1f} M)" for name, count in counts.items() if count]
    lines += [
        f"  {'total':<16} {total:>12,} weights ({total / 1e6:.1f} M), before conditions",
        f"state in fp32 (weights, average, two moments): {ADAM_COPIES * 4 * total / 2**30:.2f} GiB over all devices",
        f"{experiment.training.steps:,} steps of {experiment.training.batch_size} cells",
    ]
    return "\n".join(lines)
