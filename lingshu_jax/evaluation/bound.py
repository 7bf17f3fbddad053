"""The likelihood bound over many cells: chunked to one compiled shape, noise keyed by cell."""

# n cells, G genes, R rows of one forward pass

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt

from lingshu_jax.diffusion.likelihood import log_likelihood_bound
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of, to_host


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
    nats, errors = np.empty(len(cells)), np.empty(len(cells))
    for first, _, batch in batches_of(mesh, chunks, cells, conditions, seed=seed, rows=rows):
        with compiled_for(mesh):
            estimate, error = log_likelihood_bound(model, *batch, draws=draws)
        real = slice(first, min(first + rows, len(cells)))
        nats[real] = to_host(estimate)[: real.stop - real.start]
        errors[real] = to_host(error)[: real.stop - real.start]
        progress(real.stop, len(cells))
    return nats, errors


def batches_of(
    mesh: Any,
    chunks: Callable[[np.ndarray], np.ndarray],
    cells: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    *,
    seed: int,
    rows: int,
) -> Iterator[tuple[int, np.ndarray, tuple[Any, Any, Any]]]:
    """Batches of exactly `rows` cells: first place, tokens here, and (tokens, conditions, keys) on the mesh."""
    key = jax.random.key(seed)
    for part in padded(len(cells), rows):
        tokens = chunks(cells[part]).astype(np.int32)
        batch = tokens, {name: values[part] for name, values in conditions.items()}, cells[part].astype(np.uint32)
        placed = jax.tree.map(jnp.asarray, batch) if mesh is None else jax.device_put(batch, batch_sharding(mesh))
        with compiled_for(mesh):
            keys = _keys_of(key, placed[2])
        yield int(part[0]), tokens, (placed[0], placed[1], keys)


@jax.jit
def _keys_of(key: Key[Array, ""], cells: UInt[Array, "R"]) -> Key[Array, "R"]:
    """A key per cell from its number, whatever rows it is in."""
    return jax.vmap(lambda cell: jax.random.fold_in(key, cell))(cells)


def padded(cells: int, rows: int) -> Iterator[np.ndarray]:
    """Index blocks of exactly `rows`, the last one filled up with copies of the last cell."""
    for first in range(0, cells, rows):
        yield np.minimum(np.arange(first, first + rows), cells - 1)
