import numpy as np
import pytest

from lingshu_jax.model import ApartOrder, RandomOrder, TogetherOrder
from lingshu_jax.model.gene_order import lay_out

ORDER = np.random.default_rng(0).permutation(37)


@pytest.mark.parametrize("config", [RandomOrder(), TogetherOrder(), ApartOrder()])
def test_every_gene_has_a_place_of_its_own(config):
    layout = lay_out(config, 37, 4, seed=0, coexpressed=ORDER)
    assert (layout.genes, layout.patches) == (37, 10)
    assert len(set(layout.place.tolist())) == 37


def test_neighbours_of_the_order_share_a_patch_together():
    layout = lay_out(TogetherOrder(), 37, 4, seed=0, coexpressed=ORDER)
    assert layout.gene_at[0].tolist() == ORDER[:4].tolist()
    assert layout.gene_at[3].tolist() == ORDER[12:16].tolist()


def test_neighbours_of_the_order_are_in_different_patches_apart():
    layout = lay_out(ApartOrder(), 37, 4, seed=0, coexpressed=ORDER)
    patch = layout.place[ORDER] // 4
    assert all(len(set(patch[i : i + 10])) == 10 for i in range(0, 30, 10))


def test_an_order_of_coexpression_is_not_made_up():
    with pytest.raises(ValueError, match="pass the genes"):
        lay_out(TogetherOrder(), 37, 4, seed=0, coexpressed=None)
