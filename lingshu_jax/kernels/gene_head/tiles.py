"""Tiles of the gene head: logits of one slot in one run of patches at a time, small enough to stay in cache."""

# B cells, P patches, p patches of a tile, S genes per patch

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lingshu_jax.kernels.gene_head.head import GeneHead, slot_logits
from lingshu_jax.kernels.shards import over_cells

ROWS_PER_TILE = 2048
"""About this many (cell, patch) rows of logits exist at a time: 2.3 MB of fp32 at 281 tokens."""

Tiles = dict[str, Any]


def split_tiles(head: GeneHead, **per_gene: Float[Array, "B P S"]) -> Tiles:
    """Arrays by tile, tile axis first: `states` (tiles, B, p, D), `base` (tiles, S, p, V), per-gene (tiles, S, B, p).

    Patches are tiled, not cells; the last tile is padded with zeros.
    """
    cells, patches = head.states.shape[:2]
    tiles = max(1, min(patches, round(cells * patches / ROWS_PER_TILE)))

    def split(array: Array, axis: int) -> Array:
        length = -(-patches // tiles)
        padding = [(0, length * tiles - patches) if i == axis else (0, 0) for i in range(array.ndim)]
        padded = jnp.pad(array, padding)
        shape = (*array.shape[:axis], tiles, length, *array.shape[axis + 1 :])
        return jnp.moveaxis(padded.reshape(shape), axis, 0)

    result: Tiles = {"states": split(head.states, 1)}
    if head.base is not None:
        result["base"] = split(jax.lax.stop_gradient(head.base), 1)
    if head.tilt is not None:
        per_gene = {**per_gene, "tilt": head.tilt}
    for name, values in per_gene.items():
        result[name] = jnp.transpose(split(values, 1), (0, 3, 1, 2))
    return result


def join_states(tiles: Float[Array, "tiles B p D"], patches: int) -> Float[Array, "B P D"]:
    """Undo the split of an array like the states."""
    joined = jnp.moveaxis(tiles, 0, 1)
    return joined.reshape(joined.shape[0], -1, joined.shape[-1])[:, :patches]


def join_genes(tiles: Float[Array, "tiles S B p"], patches: int) -> Float[Array, "B P S"]:
    """Undo the split of a per-gene array."""
    joined = jnp.transpose(tiles, (2, 0, 3, 1))
    return joined.reshape(joined.shape[0], -1, joined.shape[-1])[:, :patches]


def slots_of(tile: Tiles, matrix: Float[Array, "S D K"]) -> Tiles:
    """What a scan over the slots of a tile runs through: everything but the states, slot axis first."""
    return {"matrix": matrix, **{name: values for name, values in tile.items() if name != "states"}}


def map_genes(
    function: Callable[..., Array], head: GeneHead, **per_gene: Float[Array, "B P S"]
) -> Float[Array, "B P S"]:
    """Apply `function(logits (B, p, V), **per_gene slot values (B, p)) -> (B, p)` to every gene."""
    cells = (head.states, head.tilt, per_gene)
    return over_cells(functools.partial(_map_genes, function), cells, (head.matrix, head.base))


def _map_genes(function: Callable[..., Array], cells: Any, shared: Any) -> Float[Array, "B P S"]:
    states, tilt, per_gene = cells
    tiles = split_tiles(GeneHead(states, shared[0], shared[1], tilt), **per_gene)

    def one_tile(tile: Tiles) -> Array:
        def one_slot(slot: Tiles) -> Array:
            return function(slot_logits(tile["states"], slot), **{name: slot[name] for name in per_gene})

        return jax.lax.map(one_slot, slots_of(tile, shared[0]))

    return join_genes(jax.lax.map(one_tile, tiles), states.shape[1])
