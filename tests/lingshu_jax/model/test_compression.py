import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(
    genes=st.integers(1, 40),
    slots=st.integers(1, 6),
    removed=st.sets(st.integers(0, 39)),
    new=st.integers(0, 20),
    seed=st.integers(0, 5),
)
def test_another_panel_keeps_every_known_place(genes, slots, removed, new, seed):
    layout = GeneLayout.random(genes, slots, seed=seed)
    kept = [gene for gene in range(genes) if gene not in removed] or [0]
    known = np.random.default_rng(seed).permutation(kept + [-1] * new)
    adapted = layout.adapted(known)
    np.testing.assert_array_equal(adapted.place[known >= 0], layout.place[known[known >= 0]])
    assert len(set(adapted.place.tolist())) == len(known)
    gone = set(layout.place.tolist()) - set(adapted.place[known >= 0].tolist())
    assert set(adapted.retired) == gone and not gone & set(adapted.place.tolist())
    free = layout.patches * slots - genes
    assert adapted.patches == layout.patches + -(-max(0, new - free) // slots)
    assert GeneLayout.from_json(adapted.to_json()).gene_at.tolist() == adapted.gene_at.tolist()
    assert (adapted.gene_at.reshape(-1)[list(gone)] == len(known) + 1).all()
    again = adapted.adapted(np.arange(len(known)))
    assert again.retired == adapted.retired and (again.place == adapted.place).all()
