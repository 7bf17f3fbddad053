"""The likelihood bound over many cells: chunked to one compiled shape, noise keyed by cell."""

# n cells, G genes, R rows of one forward pass

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lingshu_jax.diffusion.likelihood import log_likelihood_bound
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of


def bound_of_cells(
    model: Any,
    chunks: Callable[[np.ndarray], np.ndarray],
    cells: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    *,
    seed: int,
    draws: int,
    cells_per_device: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Upper bounds on -log p of cells, nats, with standard errors: two float64 arrays (n,).

    Args:
        model: the denoiser.
        chunks: cell numbers -> tokens (R, G), so that no more than one chunk of cells is held.
        cells: int (n,) cell numbers; a cell's noise is keyed by (seed, its number), so that two models, or two labels,
            are compared under the same masks.
        conditions: vocabulary rows (n,) by field.
        seed: seed of all noise.
        draws: noised copies per cell.
        cells_per_device: rows of one forward pass on each device.
        progress: called with (cells done, n).
    """
    mesh = mesh_of(jax.tree.leaves(model))
    rows = cells_per_device * (1 if mesh is None else mesh.size)
    key = jax.random.key(seed)
    nats, errors = np.empty(len(cells)), np.empty(len(cells))
    for part in _padded(len(cells), rows):
        batch = {
            "tokens": chunks(cells[part]).astype(np.int32),
            "conditions": {name: values[part] for name, values in conditions.items()},
            "keys": jax.vmap(lambda cell: jax.random.fold_in(key, cell))(jnp.asarray(cells[part], jnp.uint32)),
        }
        placed = batch if mesh is None else jax.device_put(batch, batch_sharding(mesh))
        with compiled_for(mesh):
            estimate, error = log_likelihood_bound(
                model, jnp.asarray(placed["tokens"]), placed["conditions"], placed["keys"], draws=draws
            )
        real = slice(part[0], min(part[0] + rows, len(cells)))
        nats[real] = np.asarray(estimate)[: real.stop - real.start]
        errors[real] = np.asarray(error)[: real.stop - real.start]
        progress(real.stop, len(cells))
    return nats, errors


def _padded(cells: int, rows: int) -> Iterator[np.ndarray]:
    """Index blocks of exactly `rows`, the last one filled up with copies of the last cell."""
    for first in range(0, cells, rows):
        yield np.minimum(np.arange(first, first + rows), cells - 1)
