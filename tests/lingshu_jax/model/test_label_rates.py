import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.model import DepthNB
from lingshu_jax.model.rows import features_only
from lingshu_jax.vocabulary import CONTROL_ROW, NULL_ROW, PAD_ROW, ConditionVocabulary
from tests.lingshu_jax.tiny import VOCABULARY, denoiser, rates

LINE, TARGET = VOCABULARY.fields
A, X, Y = LINE.row("A"), TARGET.row("X"), TARGET.row("Y")


@pytest.fixture(scope="module")
def model():
    return denoiser()


def shift(model, line, target):
    """(G,) of one cell, in panel order."""
    told = model.start.told({"line": jnp.asarray([line]), "target": jnp.asarray([target])})
    return np.asarray(told).reshape(-1)[np.asarray(model.place[...])]


def alone(field, row):
    return rates().basis @ rates().tables[field][row]


def pair(line, target):
    return rates().basis @ rates().tables["line x target"][line, target]


@pytest.mark.parametrize("target", [CONTROL_ROW, X, Y])
def test_labels_and_their_pair_shift_log_rates(model, target):
    expected = alone("line", A) + alone("target", target) + pair(A, target)
    np.testing.assert_allclose(shift(model, A, target), expected, atol=1e-5)


def test_a_label_that_is_left_out_shifts_nothing(model):
    np.testing.assert_allclose(shift(model, A, NULL_ROW), alone("line", A), atol=1e-5)
    np.testing.assert_allclose(shift(model, NULL_ROW, X), alone("target", X), atol=1e-5)
    np.testing.assert_array_equal(shift(model, NULL_ROW, NULL_ROW), 0.0)


def test_features_alone_shift_nothing(model):
    np.testing.assert_allclose(shift(model, A, int(features_only(jnp.asarray(X)))), alone("line", A), atol=1e-5)


def test_members_of_a_set_add_what_they_do_beyond_the_control(model):
    of_x, of_y, of_control = (alone("target", row) + pair(A, row) for row in (X, Y, CONTROL_ROW))
    expected = alone("line", A) + of_x + of_y - of_control
    np.testing.assert_allclose(shift(model, A, [X, PAD_ROW, Y]), expected, atol=1e-5)
    np.testing.assert_allclose(shift(model, A, [PAD_ROW, X]), shift(model, A, X), atol=1e-5)


def test_without_labels_or_at_rank_0_there_are_none():
    assert denoiser(vocabulary=ConditionVocabulary()).start.told({}) is None
    assert denoiser(start=DepthNB(label_rank=0)).start.told({"line": jnp.array([A]), "target": jnp.array([X])}) is None
    with pytest.raises(ValueError, match="label_rank must be >= 0"):
        DepthNB(label_rank=-1)
