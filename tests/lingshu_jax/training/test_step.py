import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.config import OptimizerConfig
from lingshu_jax.training.gradients import rounded
from lingshu_jax.training.optimizer import make_optimizer
from lingshu_jax.training.step import drop_numbers, drop_perturbation
from lingshu_jax.vocabulary import NULL_ROW, ConditionVocabulary, LibrarySizeField, NumberField
from tests.lingshu_jax.tiny import VOCABULARY, conditions
from tests.lingshu_jax.training.setup import bad_batch, batch, poisoned, setup_on

STEPS = 20
MESHES = [
    MeshConfig(data=2, fsdp=2, tensor=2),
    pytest.param(MeshConfig(data=8), marks=pytest.mark.slow),
    pytest.param(MeshConfig(data=1, fsdp=8), marks=pytest.mark.slow),
    pytest.param(MeshConfig(data=4, tensor=2), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_losses_do_not_depend_on_the_mesh(mesh):
    """Against one device."""
    with jax.default_matmul_precision("highest"):
        setups = setup_on(MeshConfig(data=1), devices=1), setup_on(mesh)
        losses = [setup.train(setup.init(), 0, STEPS)[1] for setup in setups]
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


@pytest.mark.parametrize("mesh", [MeshConfig(), MeshConfig(data=2, fsdp=2, tensor=2)], ids=str)
def test_microbatches_give_the_loss_and_gradients_of_the_whole_batch(mesh):
    (state, losses), (parts, again) = (
        setup.train(setup.init(), 0, 4) for setup in (setup_on(), setup_on(mesh, microbatches=4))
    )
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(parts.params), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("training", [{}, {"microbatches": 2}], ids=str)
def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(monkeypatch, training):
    setup = poisoned(setup_on(**training), monkeypatch)
    state, _ = setup.train(setup.init(), 0, 2)
    before = jax.tree.map(np.array, state)
    for n in (2, 3):
        state, metrics = setup.step(state, setup.to_device(bad_batch(n)))
    assert not np.isfinite(metrics["loss"]) and int(metrics["skipped_in_a_row"]) == 2
    assert (int(state.step), int(state.skipped), int(state.skipped_in_a_row)) == (4, 2, 2)
    for kept, was in zip(
        jax.tree.leaves((state.params, state.ema, state.opt_state)),
        jax.tree.leaves((before.params, before.ema, before.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, was)
    state, metrics = setup.step(state, setup.to_device(batch(4)))
    assert np.isfinite(metrics["loss"]) and (int(state.skipped), int(state.skipped_in_a_row)) == (2, 0)


def test_gradients_are_clipped_to_a_global_norm():
    tx = make_optimizer(OptimizerConfig(clip_norm=0.5, b1=0.0, b2=0.0), 10)
    gradients = {"a": jnp.full((3, 4), 2.0), "b": jnp.full((5,), -1.0)}
    clipped, _ = optax.clip_by_global_norm(0.5).update(gradients, optax.EmptyState())
    first, _ = tx.update(gradients, tx.init(gradients), gradients)
    same, _ = tx.update(clipped, tx.init(gradients), gradients)
    assert float(optax.tree.norm(clipped)) == pytest.approx(0.5)
    jax.tree.map(np.testing.assert_array_equal, first, same)


def test_low_precision_parameters_have_a_master_copy_of_full_precision():
    setup, full = setup_on(parameter_dtype="bfloat16"), setup_on()
    (state, losses), (_, expected) = (one.train(one.init(), 0, 6) for one in (setup, full))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((state.params, state.ema))} == {"float32"}
    assert losses[1:] != expected[1:]
    np.testing.assert_allclose(losses, expected, rtol=2e-2)
    master = np.asarray(state.params["w_down"][...])
    assert np.abs(master - master.astype(jnp.bfloat16).astype(np.float32)).max() > 0


def test_rounding_leaves_norms_and_vectors_alone():
    lowered = rounded(setup_on().init().params, "bfloat16")
    by_type = {
        jax.tree_util.keystr(path): leaf.dtype.name for path, leaf in jax.tree_util.tree_leaves_with_path(lowered)
    }
    assert {kind for name, kind in by_type.items() if "norm" in name} == {"float32"}
    assert {kind for name, kind in by_type.items() if "qkv" in name or "w_down" in name} == {"bfloat16"}


def test_numbers_are_left_out_by_position_and_field_by_field():
    dose, library = NumberField(name="dose"), LibrarySizeField()
    vocabulary = ConditionVocabulary((*VOCABULARY.fields, dose, library))
    labels = conditions(4000) | {field.name: jnp.arange(4000.0) for field in (dose, library)}
    position, key = jnp.arange(4000), jax.random.key(0)
    dropped = drop_numbers(labels, vocabulary, position, key, 0.2)
    gone = {name: np.isnan(dropped[name]) for name in ("dose", "log_library_size")}
    assert all(0.17 < share.mean() < 0.23 for share in gone.values())
    assert 0.02 < (gone["dose"] & gone["log_library_size"]).mean() < 0.06
    np.testing.assert_array_equal(dropped["dose"][~gone["dose"]], labels["dose"][~gone["dose"]])
    np.testing.assert_array_equal(dropped["target"], labels["target"])
    backwards = {name: values[::-1] for name, values in labels.items()}
    again = drop_numbers(backwards, vocabulary, position[::-1], key, 0.2)
    np.testing.assert_array_equal(again["dose"][::-1], dropped["dose"])


def test_token_noise_changes_what_the_model_sees():
    plain, noisy = setup_on(), setup_on(token_noise=0.5)
    losses = [float(s.step(s.init(), s.to_device(batch(0)))[1]["loss"]) for s in (plain, noisy)]
    assert losses[0] != losses[1] and np.isfinite(losses[1])
