import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.kernels.gene_head import PADDING
from lingshu_jax.model.compression import GeneLayout, densify, places_of, to_panel, to_patches
from lingshu_jax.tokens import ABSENT, encode_counts


@pytest.mark.parametrize(("genes", "slots"), [(37, 4), (32, 4), (5, 1), (3, 8), (18_080, 32)])
def test_every_gene_has_a_place_of_its_own(genes, slots):
    layout = GeneLayout.random(genes, slots)
    assert layout.patches == -(-genes // slots)
    assert sorted(layout.gene_at[layout.gene_at < genes]) == list(range(genes))
    assert (layout.gene_at.ravel()[layout.place] == np.arange(genes)).all()


def test_the_order_is_random_but_fixed():
    assert (GeneLayout.random(100, 8).place == GeneLayout.random(100, 8).place).all()
    assert (GeneLayout.random(100, 8).place != GeneLayout.random(100, 8, seed=1).place).any()


def test_tokens_survive_the_way_to_patches_and_back():
    layout = GeneLayout.random(37, 4)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 281, (3, 37)))
    patches = to_patches(tokens, jnp.asarray(layout.gene_at))
    np.testing.assert_array_equal(to_panel(patches, jnp.asarray(layout.place)), tokens)
    assert (patches == PADDING).sum() == 3 * 3


def test_pairs_become_the_tokens_of_their_cells():
    rng = np.random.default_rng(0)
    layout = GeneLayout.random(37, 4)
    counts = rng.poisson(0.7, (5, 37)) * rng.choice([1, 500], (5, 37))
    capacity = (counts > 0).sum(1).max() + 1
    genes, values = np.full((5, capacity), 37), np.zeros((5, capacity), int)
    for i, row in enumerate(counts):
        expressed = np.flatnonzero(row)
        genes[i, : len(expressed)], values[i, : len(expressed)] = expressed, row[expressed]
    measured = np.ones((2, 37), bool)
    measured[1, 20:] = False
    source = np.array([0, 0, 1, 0, 1])
    counts[source == 1, 20:] = 0
    expressed = places_of(jnp.asarray(genes), jnp.asarray(layout.place), layout.gene_at.size)
    patches = densify(
        expressed, jnp.asarray(values), jnp.asarray(source), jnp.asarray(measured), jnp.asarray(layout.gene_at)
    )
    expected = np.where(measured[source], encode_counts(counts), ABSENT)
    np.testing.assert_array_equal(to_panel(patches, jnp.asarray(layout.place)), expected)
    assert (np.asarray(patches)[:, layout.gene_at == 37] == PADDING).all()
