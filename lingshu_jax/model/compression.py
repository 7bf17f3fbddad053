"""Gene patches (paper section 3): which gene sits in which slot of which patch, and cells brought into that layout."""

# B cells, G genes, P patches, S genes per patch, C expressed genes kept per cell, M measured-gene masks

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from lingshu_jax.kernels.gene_head import PADDING
from lingshu_jax.tokens import ABSENT, encode_counts


@dataclasses.dataclass(frozen=True, eq=False)
class GeneLayout:
    """The explicit table gene -> (patch, slot): gene g sits at flat place `place[g] = patch * S + slot`."""

    place: np.ndarray
    """int32 (G,), distinct."""
    genes_per_patch: int
    retired: tuple[int, ...] = ()
    """Places of genes that an earlier panel had and this one has not: always ABSENT, never given to another gene."""

    @classmethod
    def random(cls, genes: int, genes_per_patch: int, *, seed: int = 0) -> "GeneLayout":
        """The paper's fixed random permutation over ceil(G / S) patches; padding slots lie among the genes."""
        patches = -(-genes // genes_per_patch)
        places = np.random.default_rng(seed).permutation(patches * genes_per_patch)[:genes]
        return cls(places.astype(np.int32), genes_per_patch)

    def adapted(self, known: np.ndarray) -> "GeneLayout":
        """The layout of another panel: known genes keep their place, new ones get free slots, then new patches.

        Args:
            known: int (G',): for each gene of the new panel its number in the old one, -1 for a new gene.
        """
        kept = self.place[known[known >= 0]]
        retired = sorted(set(self.place.tolist()) - set(kept.tolist()) | set(self.retired))
        taken = np.zeros(self.patches * self.genes_per_patch, bool)
        taken[self.place] = taken[list(self.retired)] = True
        new = int((known < 0).sum())
        free = np.flatnonzero(~taken)
        added = np.concatenate([free, np.arange(taken.size, taken.size + new)])[:new]
        place = np.empty(len(known), np.int32)
        place[known >= 0], place[known < 0] = kept, added
        return GeneLayout(place, self.genes_per_patch, tuple(retired))

    @property
    def genes(self) -> int:
        return len(self.place)

    @functools.cached_property
    def patches(self) -> int:
        """Number of patches, up to the last one that holds or held a gene."""
        return max(int(self.place.max()), *self.retired, 0) // self.genes_per_patch + 1

    @functools.cached_property
    def gene_at(self) -> np.ndarray:
        """int32 (P, S): the gene in each slot, G where there never was one, G + 1 where there is none any more."""
        table = np.full(self.patches * self.genes_per_patch, self.genes, np.int32)
        table[list(self.retired)] = self.genes + 1
        table[self.place] = np.arange(self.genes, dtype=np.int32)
        return table.reshape(self.patches, self.genes_per_patch)

    def spread(self, values: np.ndarray, *, padding: float) -> np.ndarray:
        """Bring per-gene values (G, ...) into the layout: (P, S, ...), `padding` in slots without a gene."""
        filler = np.full((2, *values.shape[1:]), padding, values.dtype)
        return np.concatenate([values, filler])[self.gene_at]

    def to_json(self) -> dict[str, Any]:
        return {
            "place": self.place.tolist(),
            "genes_per_patch": self.genes_per_patch,
            "retired": list(self.retired),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GeneLayout":
        place = np.array(value["place"], np.int32)
        return cls(place, value["genes_per_patch"], tuple(value.get("retired", ())))


def to_patches(tokens: Int[Array, "B G"], gene_at: Int[Array, "P S"]) -> Int[Array, "B P S"]:
    """Tokens in panel order to the patch layout; empty slots hold PADDING, those of former genes ABSENT."""
    cells = tokens.shape[0]
    empty = jnp.broadcast_to(jnp.array([PADDING, ABSENT], jnp.int32), (cells, 2))
    return jnp.concatenate([tokens.astype(jnp.int32), empty], axis=1)[:, gene_at]


def to_panel(values: Array, place: Int[Array, "G"]) -> Array:
    """Per-slot values (B, P, S) back to panel order (B, G)."""
    return values.reshape(values.shape[0], -1, *values.shape[3:])[:, place]


def places_of(genes: Int[Array, "B C"], place: Int[Array, "G"], places: int) -> Int[Array, "B C"]:
    """Places of listed genes; padding pairs (gene G) get `places`, one beyond the layout."""
    return jnp.pad(place, (0, 1), constant_values=places)[genes]


def densify(
    expressed: Int[Array, "B C"],
    counts: Int[Array, "B C"],
    mask: Int[Array, "B"],
    measured: Bool[Array, "M G"],
    gene_at: Int[Array, "P S"],
) -> Int[Array, "B P S"]:
    """Tokens in the patch layout from padded (place, count) pairs.

    A gene that is not listed has count 0; one that the cell's source did not measure (`measured[mask]`), or that the
    panel has no longer, is ABSENT.
    """
    flat = jnp.zeros((expressed.shape[0], gene_at.size), jnp.int32)
    tokens = encode_counts(counts.astype(jnp.int32)).astype(jnp.int32)
    # A place beyond the layout is dropped by the scatter: that is where padding pairs point.
    flat = flat.at[jnp.arange(expressed.shape[0])[:, None], expressed].set(tokens, mode="drop")
    present = jnp.where(absent_places(measured, gene_at)[mask], ABSENT, flat.reshape(-1, *gene_at.shape))
    return jnp.where(gene_at == measured.shape[1], PADDING, present)


def absent_places(measured: Bool[Array, "M G"], gene_at: Int[Array, "P S"]) -> Bool[Array, "M P S"]:
    """Places of genes that were not measured, under every mask, or that the panel has no longer; an empty slot is
    none."""
    there = jnp.pad(jnp.pad(measured, ((0, 0), (0, 1)), constant_values=True), ((0, 0), (0, 1)))
    return ~there[:, gene_at]
