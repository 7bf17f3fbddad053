"""One forward pass over many cells: batches of one compiled shape, on the run's devices."""

# n cells, R rows of one pass

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.load import LoadedRun


def forward_cells(
    run: "LoadedRun",
    method: str,
    tokens: Callable[[np.ndarray], np.ndarray],
    conditions: Mapping[str, np.ndarray],
    n: int,
    *,
    cells_per_device: int = 32,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """(n, ...): what a method of the model, `method(tokens, conditions)`, gives for each cell.

    Args:
        run: the run.
        method: its name: embed, expected_counts.
        tokens: cell numbers (R,) -> tokens (R, G).
        conditions: by field, as the model takes them (n, ...).
        n: number of cells.
        cells_per_device: rows of every pass on each device; the last one is padded.
        progress: told how many cells are through.
    """
    import jax

    from lingshu_jax.diffusion.denoising import Compilable
    from lingshu_jax.evaluation.bound import padded
    from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of, to_host

    parts, mesh = Compilable.of(run.model), mesh_of(jax.tree.leaves(run.model))
    rows = cells_per_device * (1 if mesh is None else mesh.size)
    found = []
    for part in padded(n, rows):
        batch = (tokens(part), {name: values[part] for name, values in conditions.items()})
        placed = batch if mesh is None else jax.device_put(batch, batch_sharding(mesh))
        with compiled_for(mesh):
            states = to_host(_compiled(method)(parts.structure, parts.arrays, *placed))
        real = min(rows, n - int(part[0]))
        found.append(states[:real])
        progress(int(part[0]) + real)
    return np.concatenate(found)


@functools.cache
def _compiled(method: str) -> Any:
    import jax

    @functools.partial(jax.jit, static_argnums=0)
    def forward(structure: Any, arrays: Any, tokens: Any, conditions: Any) -> Any:
        return getattr(structure.merge(arrays), method)(tokens, conditions)

    return forward
