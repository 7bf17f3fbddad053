"""Conditions that are numbers: what they add, and what is told where they are left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lingshu_jax.diffusion import GeometricSchedule, SamplerConfig, log_likelihood_bound, sample
from lingshu_jax.diffusion.sampler import _distinct
from lingshu_jax.model import LogFrequency
from lingshu_jax.model.rows import number_features
from lingshu_jax.tokens import ABSENT, MASK
from lingshu_jax.vocabulary import NULL_ROW, ConditionVocabulary, LibrarySizeField, NumberField
from tests.lingshu_jax.tiny import GENES, VOCABULARY, cells, conditions, denoiser, statistics

DOSE, LIBRARY = NumberField(name="dose", mean=3.0, scale=2.0), LibrarySizeField(mean=4.0, scale=0.5)
NUMBERS = ConditionVocabulary((*VOCABULARY.fields, DOSE, LIBRARY))
NAN = float("nan")


def told(n, dose=NAN, library=NAN):
    return {**conditions(n), "dose": jnp.full(n, dose), "log_library_size": jnp.full(n, library)}


@pytest.fixture(scope="module")
def model():
    return denoiser(trained=True, vocabulary=NUMBERS)


def test_a_number_that_is_left_out_is_the_null_row_alone():
    features = number_features(DOSE, jnp.array([NAN, 3.0, 5.0]))
    assert features.shape == (3, DOSE.rows)
    np.testing.assert_array_equal(features[0], np.eye(DOSE.rows)[NULL_ROW])
    np.testing.assert_allclose(features[1], [0, 1, 0, 0, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(features[2], [0, 1, 1, np.sin(1), np.cos(1), np.sin(2), np.cos(2)], atol=1e-6)


def test_every_number_is_one_more_position_and_changes_the_prediction(model):
    tokens = jnp.where(jnp.arange(GENES) % 2, cells(4), MASK)
    logits = [np.asarray(model(tokens, told(4, dose))) for dose in (NAN, 3.0, 5.0)]
    assert all(np.isfinite(part).all() for part in logits)
    assert np.abs(logits[0] - logits[1]).max() > 1e-4 and np.abs(logits[1] - logits[2]).max() > 1e-4
    with pytest.raises(ValueError, match=r"missing \['dose', 'log_library_size'\]"):
        model(tokens, conditions(4))


def test_gradients_are_finite_where_numbers_are_left_out(model):
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    one_left_out = told(4, 3.0) | {"dose": jnp.array([NAN, 1.0, 2.0, NAN])}

    def loss(params):
        return nnx.merge(graph, params, rest)(jnp.full((4, GENES), MASK), one_left_out).var()

    gradients = jax.tree.leaves(jax.grad(loss)(params))
    assert all(np.isfinite(leaf).all() for leaf in gradients) and any(np.abs(leaf).max() > 0 for leaf in gradients)


def test_the_library_size_says_the_depth(model):
    """It is that over what the measured genes hold in the average cell of its labels, whatever is visible."""
    tokens = cells(3).at[:, 5:9].set(ABSENT)
    shift = np.asarray(model.start.told(conditions(3))).reshape(3, -1)[:, np.asarray(model.place[...])]
    held = np.delete(statistics().mean * np.exp(shift), np.arange(5, 9), axis=1).sum(1)
    for seen in (tokens, jnp.where(jnp.arange(GENES) % 3 > 0, MASK, tokens).at[:, 5:9].set(ABSENT)):
        depth = model.start.depth(model.patches(seen), told(3, library=4.5))
        np.testing.assert_allclose(depth, np.exp(4.5) / held, rtol=1e-5)
    plain = denoiser(trained=True)
    left_out = model.start.depth(model.patches(tokens), told(3))
    np.testing.assert_allclose(left_out, plain.start.depth(plain.patches(tokens), conditions(3)), rtol=1e-6)


def test_cells_drawn_at_a_library_size_have_it(model):
    sampler = SamplerConfig(schedule=GeometricSchedule(steps=2), cells_per_device=64)
    fresh = denoiser(vocabulary=NUMBERS)  # its start alone: the network adds nothing yet
    totals = [
        np.median(sample(fresh, told(64, library=size), sampler, jax.random.key(0), genes=GENES).sum(1))
        for size in (3.5, 4.5)
    ]
    np.testing.assert_allclose(np.log(totals), [3.5, 4.5], atol=0.2)


def test_bounds_given_a_number_are_others_and_finite(model):
    nats = [
        log_likelihood_bound(model, cells(8), told(8, library=size), jax.random.key(0), draws=4)[0]
        for size in (NAN, 4.0)
    ]
    assert np.isfinite(nats).all() and np.abs(nats[0] - nats[1]).max() > 1e-3


def test_a_cell_that_leaves_a_number_out_is_the_same_in_any_request():
    model = denoiser(trained=True, vocabulary=NUMBERS, start=LogFrequency())  # shares first steps
    sampler = SamplerConfig(schedule=GeometricSchedule(steps=2), cells_per_device=4)
    labels = {**told(8), "dose": jnp.where(jnp.arange(8) < 5, NAN, 3.0)}
    whole = sample(model, labels, sampler, jax.random.key(1), genes=GENES)
    some = sample(model, {name: rows[:3] for name, rows in labels.items()}, sampler, jax.random.key(1), genes=GENES)
    np.testing.assert_array_equal(whole[:3], some)


def test_left_out_numbers_are_like_each_other():
    left_out = np.full(6, np.nan, np.float32)
    representative, kind = _distinct(np.broadcast_to(np.int32(MASK), (6, 3)), {"dose": left_out})
    assert len(representative) == 1 and (kind == 0).all()
