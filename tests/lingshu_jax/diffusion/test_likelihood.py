import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.diffusion import log_likelihood_bound
from lingshu_jax.model import LogFrequency
from lingshu_jax.model.start import log_frequencies
from lingshu_jax.tokens import ABSENT
from tests.lingshu_jax.oracle import CELLS, exact_denoiser, independent_denoiser, joint
from tests.lingshu_jax.tiny import GENES, cells, conditions, denoiser, statistics

KEY = jax.random.key(0)


def test_the_estimate_of_an_exact_denoiser_is_minus_log_p_within_its_error():
    probabilities = joint()
    nats, errors = log_likelihood_bound(exact_denoiser(probabilities), jnp.asarray(CELLS), {}, KEY, draws=400)
    expected = -(probabilities * np.log(probabilities)).sum()
    error = np.sqrt((probabilities**2 * np.asarray(errors) ** 2).sum())
    assert abs((probabilities * nats).sum() - expected) < 4 * error
    assert (probabilities * np.asarray(nats)).sum() > 0 and error < 0.1


def test_independent_genes_are_estimated_at_their_own_entropy():
    probabilities = joint()
    nats, errors = log_likelihood_bound(independent_denoiser(probabilities), jnp.asarray(CELLS), {}, KEY, draws=400)
    logits = independent_denoiser(probabilities)(jnp.asarray(CELLS), {})
    log_p = jax.nn.log_softmax(logits, -1)
    exact = -np.take_along_axis(np.asarray(log_p), CELLS[..., None], -1).sum((1, 2))
    assert (np.abs(nats - exact) < 4.5 * np.asarray(errors)).all()


def test_errors_shrink_with_the_square_root_of_the_draws():
    model = exact_denoiser(joint())
    few = log_likelihood_bound(model, jnp.asarray(CELLS), {}, KEY, draws=16)[1].mean()
    many = log_likelihood_bound(model, jnp.asarray(CELLS), {}, KEY, draws=256)[1].mean()
    assert 2.8 < few / many < 5.7


def test_a_model_that_is_its_start_is_bounded_exactly():
    tokens = cells(16)
    nats, errors = log_likelihood_bound(denoiser(start=LogFrequency()), tokens, conditions(16), KEY, draws=2)
    table = log_frequencies(statistics().histogram)
    expected = [-table[np.arange(GENES), row].sum() for row in np.asarray(tokens)]
    np.testing.assert_allclose(nats, expected, rtol=1e-4)
    assert (np.asarray(errors) < 1e-2).all()


def test_absent_genes_count_for_nothing():
    tokens = cells(8)
    model = denoiser(start=LogFrequency())
    whole, _ = log_likelihood_bound(model, tokens, conditions(8), KEY, draws=2)
    part, _ = log_likelihood_bound(model, tokens.at[:, :10].set(ABSENT), conditions(8), KEY, draws=2)
    table = log_frequencies(statistics().histogram)
    removed = [-table[np.arange(10), row[:10]].sum() for row in np.asarray(tokens)]
    np.testing.assert_allclose(whole - part, removed, rtol=1e-3)


def test_a_cells_estimate_does_not_depend_on_its_company():
    model, tokens, keys = denoiser(), cells(6), jax.random.split(KEY, 6)
    together, _ = log_likelihood_bound(model, tokens, conditions(6), keys, draws=3)
    order = jnp.array([4, 0, 5, 2, 1, 3])
    labels = {name: rows[order] for name, rows in conditions(6).items()}
    shuffled, _ = log_likelihood_bound(model, tokens[order], labels, keys[order], draws=3)
    np.testing.assert_allclose(together[order], shuffled, rtol=1e-5)


def test_the_wrong_number_of_draws_or_keys_is_refused():
    with pytest.raises(ValueError, match="draws must be >= 1"):
        log_likelihood_bound(exact_denoiser(joint()), jnp.asarray(CELLS), {}, KEY, draws=0)
    with pytest.raises(ValueError, match="3 keys were given for 81 cells"):
        log_likelihood_bound(exact_denoiser(joint()), jnp.asarray(CELLS), {}, jax.random.split(KEY, 3))
