"""The paper's model at 8 genes per patch, its default: 2,260 patch positions on 18,080 genes.

    lingshu train paper-s8 --store STORE

Cost: a pod's, about four times that of paper-s32. Expected: the paper's unconditional and cytokine results (section 7).
"""

import dataclasses

from experiments.configs import paper_s32
from experiments.experiment import Experiment


def experiment() -> Experiment:
    """paper-s32 with smaller patches."""
    base = paper_s32.experiment()
    return dataclasses.replace(base, name="paper-s8", model=dataclasses.replace(base.model, genes_per_patch=8))
