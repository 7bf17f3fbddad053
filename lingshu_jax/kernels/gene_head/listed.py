"""A list of genes per cell, grouped by slot: what sampling computes, gene by gene, for the genes whose turn has come.

A slot has its own matrix, so its genes are taken together, from all cells and patches, a fixed number at a time, for as
many rounds as the fullest slot needs: the work follows the length of the lists, and nothing is ever left out.
"""

# B cells, P patches, S genes per patch, C listed genes of a cell, R rows of one slot in one round

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from lingshu_jax.kernels.gene_head.tiles import ROWS_PER_TILE

FEWEST_ROWS = 8
_SPARE = 1.25
"""Rows of a round over the mean of a slot, so that one round is nearly always enough for short lists."""


def over_slots(
    place: Int[Array, "B C"],
    layout: tuple[int, int],
    slots: Any,
    carry: Any,
    one_slot: Callable[[Any, Any, Int[Array, "R"], Int[Array, "R"], Int[Array, "R"]], Any],
) -> Any:
    """Fold `carry = one_slot(carry, this slot's part of slots, entry, cell, patch)` over all listed genes.

    Args:
        place: places `patch * S + slot`; one outside the layout stands for nothing.
        layout: P and S.
        slots: tree of arrays with a leading axis of S; the parts that a slot gets.
        carry: start of the fold.
        one_slot: `entry` is the place's index in the flattened list, B * C where a row stands for nothing; then `cell`
            is B and `patch` is P: gathers must fill, scatters must drop.
    """
    patches, genes_per_patch = layout
    cells, listed = place.shape
    entries = cells * listed
    flat = place.reshape(-1)
    slot = jnp.where(_inside(flat, layout), flat % genes_per_patch, genes_per_patch)
    order = jnp.argsort(slot, stable=True)
    starts = jnp.searchsorted(slot[order], jnp.arange(genes_per_patch + 1))
    rows = min(ROWS_PER_TILE, max(FEWEST_ROWS, int(_SPARE * entries / genes_per_patch) + 1))

    def one_round(i: Array, carry: Any) -> Any:
        def add_slot(carry: Any, x: tuple[Array, Array, Any]) -> tuple[Any, None]:
            start, end, part = x
            index = start + i * rows + jnp.arange(rows)
            entry = jnp.where(index < end, order[jnp.minimum(index, entries - 1)], entries)
            is_row = entry < entries
            cell = jnp.where(is_row, entry // listed, cells)
            patch = jnp.where(is_row, flat[jnp.minimum(entry, entries - 1)] // genes_per_patch, patches)
            return one_slot(carry, part, entry, cell, patch), None

        return jax.lax.scan(add_slot, carry, (starts[:-1], starts[1:], slots))[0]

    rounds = -(-jnp.diff(starts).max() // rows)
    return jax.lax.fori_loop(0, rounds, one_round, carry)


def _inside(place: Int[Array, "*C"], layout: tuple[int, int]) -> Bool[Array, "*C"]:
    return (place >= 0) & (place < layout[0] * layout[1])
