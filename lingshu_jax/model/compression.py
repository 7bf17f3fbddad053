"""Gene patches (paper section 3): which gene sits in which slot of which patch, and cells brought into that layout."""

# B cells, G genes, P patches, S genes per patch, C expressed genes kept per cell, M measured-gene masks

import dataclasses
import functools

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

    @classmethod
    def random(cls, genes: int, genes_per_patch: int, *, seed: int = 0) -> "GeneLayout":
        """The paper's fixed random permutation over ceil(G / S) patches; padding slots lie among the genes."""
        patches = -(-genes // genes_per_patch)
        places = np.random.default_rng(seed).permutation(patches * genes_per_patch)[:genes]
        return cls(places.astype(np.int32), genes_per_patch)

    @property
    def genes(self) -> int:
        return len(self.place)

    @property
    def patches(self) -> int:
        """Number of patches, up to the last one that holds a gene."""
        return int(self.place.max()) // self.genes_per_patch + 1

    @functools.cached_property
    def gene_at(self) -> np.ndarray:
        """int32 (P, S): the gene in each slot, G where there is none."""
        table = np.full(self.patches * self.genes_per_patch, self.genes, np.int32)
        table[self.place] = np.arange(self.genes, dtype=np.int32)
        return table.reshape(self.patches, self.genes_per_patch)

    def spread(self, values: np.ndarray, *, padding: float) -> np.ndarray:
        """Bring per-gene values (G, ...) into the layout: (P, S, ...), `padding` in empty slots."""
        filler = np.full((1, *values.shape[1:]), padding, values.dtype)
        return np.concatenate([values, filler])[self.gene_at]


def to_patches(tokens: Int[Array, "B G"], gene_at: Int[Array, "P S"]) -> Int[Array, "B P S"]:
    """Tokens in panel order to the patch layout; empty slots hold PADDING."""
    padded = jnp.pad(tokens.astype(jnp.int32), ((0, 0), (0, 1)), constant_values=PADDING)
    return padded[:, gene_at]


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

    A gene that is not listed has count 0; a gene that the cell's source did not measure (`measured[mask]`) is ABSENT.
    """
    flat = jnp.zeros((expressed.shape[0], gene_at.size), jnp.int32)
    tokens = encode_counts(counts.astype(jnp.int32)).astype(jnp.int32)
    # A place beyond the layout is dropped by the scatter: that is where padding pairs point.
    flat = flat.at[jnp.arange(expressed.shape[0])[:, None], expressed].set(tokens, mode="drop")
    present = jnp.where(absent_places(measured, gene_at)[mask], ABSENT, flat.reshape(-1, *gene_at.shape))
    return jnp.where(gene_at == measured.shape[1], PADDING, present)


def absent_places(measured: Bool[Array, "M G"], gene_at: Int[Array, "P S"]) -> Bool[Array, "M P S"]:
    """Places of genes that were not measured, under every mask; an empty slot is none."""
    return ~jnp.pad(measured, ((0, 0), (0, 1)), constant_values=True)[:, gene_at]
