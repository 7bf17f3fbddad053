"""The sampling job: a table of conditions in, an AnnData of integer counts with its provenance out."""

from typing import TYPE_CHECKING

import pandas as pd

from data_pipelines.progress import Progress
from experiments.prior import NoPrior, Prior
from experiments.simulation.conditions import Unseen
from experiments.simulation.output import write_cells
from experiments.simulation.request import SampleRequest
from lingshu_jax.diffusion import SamplerConfig

if TYPE_CHECKING:
    import anndata

    from experiments.load import LoadedRun

__all__ = ["Unseen", "draw_cells", "write_cells"]


def draw_cells(
    run: "LoadedRun",
    conditions: pd.DataFrame,
    sampler: SamplerConfig,
    seed: int,
    unseen: Unseen = "error",
    prior: Prior = NoPrior(),  # noqa: B008 (frozen)
    *,
    store: str | None = None,
    progress: Progress,
) -> "anndata.AnnData":
    """See `LoadedRun.sample`."""
    from experiments.load import warn

    request = SampleRequest.make(run, conditions, sampler, seed, unseen, prior, store, progress)
    if request.unseen_effects is not None and (warning := request.unseen_effects.warning):
        warn(warning)
    return request.anndata(progress)
