import jax
import jax.numpy as jnp
import numpy as np

from lingshu_jax.diffusion import corrupt
from lingshu_jax.diffusion.corruption import mask_rates, silence
from lingshu_jax.kernels.gene_head import PADDING
from lingshu_jax.tokens import ABSENT, MASK

KEY = jax.random.key(0)


def test_tokens_are_masked_at_their_cells_rate_and_else_unchanged():
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 281, (3, 4000)))
    t = jnp.array([0.1, 0.5, 1.0])
    noised, masked = corrupt(tokens, t, KEY)
    np.testing.assert_allclose(masked.mean(1), t, atol=0.03)
    np.testing.assert_array_equal(noised, jnp.where(masked, MASK, tokens))


def test_absent_and_padding_are_never_masked():
    tokens = jnp.array([[ABSENT, PADDING, 3]] * 50)
    noised, masked = corrupt(tokens, jnp.ones(50), KEY)
    assert (noised == jnp.array([ABSENT, PADDING, MASK])).all()
    assert (masked == jnp.array([False, False, True])).all()


def test_noise_follows_the_cells_key_and_not_its_row():
    tokens = jnp.zeros((4, 100), int)
    keys = jax.random.split(KEY, 4)
    t = jnp.full(4, 0.5)
    _, masked = corrupt(tokens, t, keys)
    _, reordered = corrupt(tokens, t, keys[::-1])
    np.testing.assert_array_equal(masked[::-1], reordered)
    assert not (masked[0] == masked[1]).all()


def test_rates_are_the_golden_ratio_sequence():
    rates = np.asarray(mask_rates(KEY, jnp.arange(1000)), np.float64)
    golden = (np.sqrt(5) - 1) / 2
    start = (rates[500] - 500 * golden) % 1
    expected = np.maximum((start + np.arange(1000) * golden) % 1, 1e-3)
    np.testing.assert_allclose(rates, expected, atol=1e-5)


def test_rates_of_any_16_neighbours_cover_the_unit_interval():
    for first in (0, 16, 100_000):
        rates = np.sort(np.asarray(mask_rates(KEY, first + jnp.arange(16))))
        assert np.diff(rates).max() < 0.15
        assert 0.4 < rates.mean() < 0.6
    assert not np.allclose(mask_rates(KEY, jnp.arange(4)), mask_rates(jax.random.key(1), jnp.arange(4)))


def test_only_visible_expressed_genes_are_silenced():
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 281, (3, 4000)))
    tokens = tokens.at[:, ::7].set(MASK).at[:, 1::7].set(ABSENT).at[:, 2::7].set(PADDING)
    seen = np.asarray(silence(tokens, 0.25, KEY))
    expressed = np.asarray((tokens > 0) & (tokens <= 280))
    assert 0.22 < (seen[expressed] == 0).mean() < 0.28
    kept = ~expressed | (seen != 0)
    np.testing.assert_array_equal(seen[kept], np.asarray(tokens)[kept])
