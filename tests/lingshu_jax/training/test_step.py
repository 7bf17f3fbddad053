import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.step import drop_perturbation
from lingshu_jax.vocabulary import NULL_ROW
from tests.lingshu_jax.tiny import VOCABULARY, conditions
from tests.lingshu_jax.training.setup import batch, setup_on

MESHES = [
    MeshConfig(data=1, fsdp=4, tensor=2),
    MeshConfig(data=2, fsdp=2, tensor=2),
    pytest.param(MeshConfig(data=1, fsdp=8), marks=pytest.mark.slow),
    pytest.param(MeshConfig(data=4, tensor=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_losses_do_not_depend_on_the_mesh(mesh):
    losses = [setup.train(setup.init(), 0, 4)[1] for setup in (setup_on(), setup_on(mesh))]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_parameters_are_sharded_by_their_axes():
    state = setup_on(MeshConfig(data=2, fsdp=2, tensor=2)).init()
    qkv = state.params["blocks"]["qkv"].get_raw_value()
    assert qkv.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp", None, "tensor", None)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == qkv.shape]
    assert len(moments) == 2 and all(moment.sharding == qkv.sharding for moment in moments)


def test_the_model_learns():
    setup = setup_on()
    state, losses = setup.init(), []
    for _ in range(20):
        state, metrics = setup.step(state, setup.to_device(batch(0)))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.02


def test_noise_follows_a_cells_position_and_not_its_row():
    setup = setup_on()
    order = np.random.default_rng(0).permutation(32)
    shuffled = jax.tree.map(lambda rows: rows[order], batch(0))
    _, metrics = setup.step(setup.init(), setup.to_device(batch(0)))
    _, again = setup.step(setup.init(), setup.to_device(shuffled))
    np.testing.assert_allclose(metrics["loss"], again["loss"], rtol=1e-5)


def test_the_average_follows_the_weights_slowly_but_not_at_the_start():
    setup = setup_on()
    start = jax.tree.map(np.asarray, setup.init().params)
    state, _ = setup.train(setup.init(), 0, 5)
    to_average = sum(
        float(jnp.abs(a - b).sum()) for a, b in zip(*map(jax.tree.leaves, (state.ema, state.params)), strict=True)
    )
    to_start = sum(float(jnp.abs(a - b).sum()) for a, b in zip(*map(jax.tree.leaves, (state.ema, start)), strict=True))
    assert 0 < to_average < to_start


def test_dropout_touches_only_the_perturbation():
    rows = {name: jnp.asarray(np.asarray(values)[np.arange(4000) % 30]) for name, values in conditions(30).items()}
    dropped = drop_perturbation(rows, VOCABULARY, jnp.arange(4000), jax.random.key(0), 0.25)
    np.testing.assert_array_equal(dropped["line"], rows["line"])
    is_null = np.asarray(dropped["target"]) == NULL_ROW
    assert 0.2 < is_null.mean() < 0.3
    np.testing.assert_array_equal(np.asarray(dropped["target"])[~is_null], np.asarray(rows["target"])[~is_null])
