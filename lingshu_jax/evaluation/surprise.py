"""Which genes of a set of cells surprise the model: the likelihood bound gene by gene."""

# n cells, G genes, R rows of one forward pass

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lingshu_jax.diffusion.corruption import SMALLEST_RATE, corrupt
from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.evaluation.bound import cell_number_keys, padded
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of, to_host
from lingshu_jax.tokens import OVERFLOW


def gene_surprise(
    model: Any,
    chunks: Callable[[np.ndarray], np.ndarray],
    cells: np.ndarray,
    conditions: Mapping[str, np.ndarray],
    *,
    seed: int,
    draws: int,
    cells_per_device: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over cells of each gene's share of the likelihood bound, nats: three float64 arrays (G,).

    The estimator of `log_likelihood_bound` before it is summed over genes, under the same masks: summed over genes, it
    is the mean bound of the cells.

    Args: as `bound_of_cells`.

    Returns:
        The mean per gene, its standard error over cells, and how many cells measured the gene.
    """
    parts, mesh = Compilable.of(model), mesh_of(jax.tree.leaves(model))
    rows = cells_per_device * (1 if mesh is None else mesh.size)
    key = jax.random.key(seed)
    total: list[np.ndarray] = []
    for part in padded(len(cells), rows):
        real = min(rows, len(cells) - part[0])
        batch = {
            "tokens": chunks(cells[part]).astype(np.int32),
            "conditions": {name: values[part] for name, values in conditions.items()},
            "cells": cells[part].astype(np.uint32),
        }
        placed = jax.tree.map(jnp.asarray, batch) if mesh is None else jax.device_put(batch, batch_sharding(mesh))
        with compiled_for(mesh):
            keys = cell_number_keys(key, placed["cells"])
            terms = to_host(_terms(parts.structure, parts.arrays, placed["tokens"], placed["conditions"], keys, draws))
        terms = terms[:real].astype(np.float64)
        measured = batch["tokens"][:real] <= OVERFLOW
        sums = [terms.sum(0), (terms**2).sum(0), measured.sum(0)]
        total = sums if not total else [old + new for old, new in zip(total, sums, strict=True)]
        progress(part[0] + real, len(cells))
    first, second, count = total
    n = np.maximum(count, 1)
    mean = first / n
    spread = np.sqrt(np.maximum(second / n - mean**2, 0.0) / np.maximum(n - 1, 1))
    return mean, spread, count


@functools.partial(jax.jit, static_argnums=(0, 5))
def _terms(structure: Any, arrays: Any, tokens: Any, conditions: Any, keys: Any, draws: int) -> Any:
    """(R, G): what each gene adds to each cell's bound, mean over draws; 0 for unmeasured genes."""
    model = structure.merge(arrays)
    reference = model.reference_nll(tokens)
    jitter = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 0)))(keys)

    def one(draw: Any, excess: Any) -> Any:
        t = jnp.maximum((draw + jitter) / draws, SMALLEST_RATE)
        noised, masked = corrupt(tokens, t, jax.vmap(lambda k: jax.random.fold_in(k, draw + 1))(keys))
        nll = model.token_nll(noised, conditions, tokens)
        return excess + jnp.where(masked, nll - reference, 0.0) / t[:, None]

    excess = jax.lax.fori_loop(0, draws, one, jnp.zeros(tokens.shape, jnp.float32)) / draws
    return jnp.where(tokens <= OVERFLOW, reference + excess, 0.0)
