"""Cell representations of a run, from an unmasked forward pass."""

# n cells, G genes, E coordinates, R rows of one forward pass

import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_pipelines.progress import Progress, silent
from experiments.simulation.conditions import vocabulary_rows
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
    import jax

    from lingshu_jax.evaluation.bound import padded
    from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of, to_host

    conditions = vocabulary_rows(labels, "error", run)
    structure, arrays = _parts(run.model)
    mesh: Any = mesh_of(jax.tree.leaves(run.model))
    rows = cells_per_device * mesh.size
    found = []
    for part in padded(cells.n, rows):
        batch = (cells.tokens(part), {name: values[part] for name, values in conditions.items()})
        with compiled_for(mesh):
            states = to_host(_forward()(structure, arrays, *jax.device_put(batch, batch_sharding(mesh))))
        real = min(rows, cells.n - part[0])
        found.append(states[:real])
        progress("embed", int(part[0]) + real, cells.n)
    return np.concatenate(found).astype(np.float32)


def _parts(model: Any) -> tuple[Any, Any]:
    from lingshu_jax.diffusion.denoising import Compilable

    parts = Compilable.of(model)
    return parts.structure, parts.arrays


@functools.cache
def _forward() -> Any:
    import jax

    @functools.partial(jax.jit, static_argnums=0)
    def forward(structure: Any, arrays: Any, tokens: Any, conditions: Any) -> Any:
        return structure.merge(arrays).embed(tokens, conditions)

    return forward


def embedded(run: "LoadedRun", cells: MeasuredCells, labels: pd.DataFrame, **how: Any) -> "anndata.AnnData":
    """The cells on the run's panel with their representations in obsm['X_lingshu']; `how` as for `embed_cells`."""
    import anndata

    result = anndata.AnnData(
        X=cells.counts, obs=cells.obs.copy(), var=pd.DataFrame({"measured": cells.measured}, index=run.plan.panel.genes)
    )
    result.obsm[OBSM] = embed_cells(run, cells, labels, **how)
    result.uns["lingshu"] = json.dumps(run_provenance(run, 0))
    return result
