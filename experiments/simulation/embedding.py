"""Cell representations of a run, from an unmasked forward pass."""

# n cells, E coordinates

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_pipelines.progress import Progress, silent
from experiments.simulation.conditions import vocabulary_rows
from experiments.simulation.forward import forward_cells
from experiments.simulation.measured import MeasuredCells
from experiments.simulation.provenance import run_provenance

if TYPE_CHECKING:
    import anndata

    from experiments.load import LoadedRun

OBSM = "X_lingshu"


def embed_cells(
    run: "LoadedRun",
    cells: MeasuredCells,
    labels: pd.DataFrame,
    *,
    cells_per_device: int = 32,
    progress: Progress = silent,
) -> np.ndarray:
    """Representations float32 (n, E) of cells under their labels; genes that they lack are told as unmeasured."""
    found = forward_cells(
        run,
        "embed",
        cells.tokens,
        vocabulary_rows(labels, "error", run),
        cells.n,
        cells_per_device=cells_per_device,
        progress=lambda done: progress("embed", done, cells.n),
    )
    return found.astype(np.float32)


def embedded(run: "LoadedRun", cells: MeasuredCells, labels: pd.DataFrame, **how: Any) -> "anndata.AnnData":
    """The cells on the run's panel with their representations in obsm['X_lingshu']; `how` as for `embed_cells`."""
    import anndata

    result = anndata.AnnData(
        X=cells.counts, obs=cells.obs.copy(), var=pd.DataFrame({"measured": cells.measured}, index=run.plan.panel.genes)
    )
    result.obsm[OBSM] = embed_cells(run, cells, labels, **how)
    result.uns["lingshu"] = json.dumps(run_provenance(run, 0))
    return result
