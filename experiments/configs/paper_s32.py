"""The paper's model at 32 genes per patch: 85.2 M weights in its blocks, 565 patch positions on 18,080 genes.

    lingshu train paper-s32 --store STORE

Cost: a pod's; `--dry-run` prints parameters and memory on any machine. Expected: the paper's genetic-perturbation
results (section 7), where S = 32 beat S = 8 on 6 of 7 metrics.
"""

from experiments.experiment import Experiment
from lingshu_jax.diffusion import ControlGuidance, CosineSchedule, SamplerConfig


def experiment() -> Experiment:
    """Everything as the paper has it: no start bias, no gene factors, three cosine steps, guidance 2."""
    return Experiment(
        name="paper-s32",
        sampler=SamplerConfig(schedule=CosineSchedule(steps=3), guidance=ControlGuidance(scale=2.0, mixed=0.0)),
    )
