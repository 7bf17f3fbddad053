"""From the setting of a gene order to the layout of patches."""

# G genes, P patches, S genes per patch

import functools
from typing import Any

import numpy as np

from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.config import ApartOrder, RandomOrder, TogetherOrder


@functools.singledispatch
def lay_out(order: Any, genes: int, genes_per_patch: int, *, seed: int, coexpressed: np.ndarray | None) -> GeneLayout:
    """Which gene sits where.

    Args:
        order: the setting.
        genes: G.
        genes_per_patch: S.
        seed: of a random order.
        coexpressed: int (G,), genes in an order in which neighbours vary together; orders that need none take None.

    Raises:
        ValueError: the order follows co-expression, and none is given.
    """
    raise TypeError(f"no gene order for {type(order).__name__}.")


@lay_out.register
def _(order: RandomOrder, genes: int, genes_per_patch: int, *, seed: int, coexpressed: np.ndarray | None) -> GeneLayout:
    return GeneLayout.random(genes, genes_per_patch, seed=seed)


@lay_out.register
def _(
    order: TogetherOrder, genes: int, genes_per_patch: int, *, seed: int, coexpressed: np.ndarray | None
) -> GeneLayout:
    return _at(np.arange(genes), _known(coexpressed), genes_per_patch)


@lay_out.register
def _(order: ApartOrder, genes: int, genes_per_patch: int, *, seed: int, coexpressed: np.ndarray | None) -> GeneLayout:
    patches = -(-genes // genes_per_patch)
    slot, patch = np.divmod(np.arange(genes), patches)  # dealt out like cards
    return _at(patch * genes_per_patch + slot, _known(coexpressed), genes_per_patch)


def _known(coexpressed: np.ndarray | None) -> np.ndarray:
    if coexpressed is None:
        raise ValueError("this gene order follows co-expression: pass the genes in an order of it.")
    return coexpressed


def _at(places: np.ndarray, coexpressed: np.ndarray, genes_per_patch: int) -> GeneLayout:
    """The i-th gene of the order at the i-th place."""
    place = np.empty(len(coexpressed), np.int32)
    place[coexpressed] = places
    return GeneLayout(place, genes_per_patch)
