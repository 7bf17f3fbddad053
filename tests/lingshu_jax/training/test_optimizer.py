"""Weight decay: of matrices, and of the rows that perturbations have beside their target features."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lingshu_jax.training.config import OptimizerConfig
from lingshu_jax.training.optimizer import learning_rate, make_optimizer
from tests.lingshu_jax.model.test_targets import FIELD, model

TABLES = (("condition_tokens", "tables"), ("factors", "labels"))


def table(params, part, field):
    outer, inner = part
    return np.asarray(params[outer][inner][field][...])


def decayed(config, perturbation):
    """Parameters before, and after a few steps without any gradient."""
    before = nnx.state(model(), nnx.Param)
    tx = make_optimizer(config, 10, perturbation=perturbation)
    params, state = before, tx.init(before)
    for _ in range(3):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return before, params


def left(config, decay):
    """What three steps leave of a weight."""
    return np.prod([1 - learning_rate(config, 10)(step) * decay for step in range(3)])


def test_labels_rows_decay_by_themselves_and_nothing_else_does():
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=1, weight_decay=0.01, perturbation_decay=2.0)
    before, after = decayed(config, FIELD)
    for part in TABLES:
        old, new = (table(params, part, FIELD.name) for params in (before, after))
        np.testing.assert_allclose(new[FIELD.first_row :], old[FIELD.first_row :] * left(config, 2.0), rtol=1e-5)
        np.testing.assert_allclose(new[: FIELD.first_row], old[: FIELD.first_row] * left(config, 0.01), rtol=1e-5)
        lines = (table(params, part, "line") for params in (after, before))
        np.testing.assert_allclose(next(lines), next(lines) * left(config, 0.01), rtol=1e-5)
    np.testing.assert_array_equal(after["final_norm"][...], before["final_norm"][...])
    assert left(config, 2.0) < 0.8


@pytest.mark.parametrize("field", [FIELD, None], ids=["with features", "without"])
def test_by_default_the_decay_is_that_of_matrices(field):
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=1, weight_decay=0.5)
    before, after = decayed(config, field)
    for part in TABLES:
        old, new = (table(params, part, FIELD.name) for params in (before, after))
        np.testing.assert_allclose(new, old * left(config, 0.5), rtol=1e-5)


def test_a_negative_decay_is_refused():
    with pytest.raises(ValueError, match="perturbation_decay must be >= 0"):
        OptimizerConfig(perturbation_decay=-1.0)
