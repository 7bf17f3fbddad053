"""Which genes of a set of cells surprise the model: the likelihood bound gene by gene."""

# n cells, G genes, R rows of one forward pass

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.diffusion.likelihood import excess_of_draw
from lingshu_jax.evaluation.bound import batches_of
from lingshu_jax.parallel.mesh import compiled_for, mesh_of, to_host
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
    total: list[np.ndarray] = []
    for first, tokens, batch in batches_of(mesh, chunks, cells, conditions, seed=seed, rows=rows):
        real = min(rows, len(cells) - first)
        with compiled_for(mesh):
            terms = to_host(_terms(parts.structure, parts.arrays, *batch, draws))
        terms = terms[:real].astype(np.float64)
        measured = tokens[:real] <= OVERFLOW
        sums = [terms.sum(0), (terms**2).sum(0), measured.sum(0)]
        total = sums if not total else [old + new for old, new in zip(total, sums, strict=True)]
        progress(first + real, len(cells))
    summed, squared, count = total
    n = np.maximum(count, 1)
    mean = summed / n
    spread = np.sqrt(np.maximum(squared / n - mean**2, 0.0) / np.maximum(n - 1, 1))
    return mean, spread, count


@functools.partial(jax.jit, static_argnums=(0, 5))
def _terms(structure: Any, arrays: Any, tokens: Any, conditions: Any, keys: Any, draws: int) -> Any:
    """(R, G): what each gene adds to each cell's bound, mean over draws; 0 for unmeasured genes."""
    model = structure.merge(arrays)
    reference = model.reference_nll(tokens)

    def add(draw: Any, total: Any) -> Any:
        excess, t = excess_of_draw(model, tokens, conditions, reference, keys, draw, draws)
        return total + excess / t[:, None]

    excess = jax.lax.fori_loop(0, draws, add, jnp.zeros(tokens.shape, jnp.float32)) / draws
    return jnp.where(tokens <= OVERFLOW, reference + excess, 0.0)
