import jax
import numpy as np
import pytest

from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints, abstract_like
from tests.lingshu_jax.training.setup import setup_on


def same(one, other) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture
def saved(tmp_path):
    setup = setup_on()
    state, _ = setup.train(setup.init(), 0, 3)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    checkpoints.save(3, state, setup.parts.fixed, {"next": 3}, {"panel": ["a"]})
    checkpoints.close()
    return tmp_path / "checkpoints", setup, state


def test_two_halves_equal_the_whole_bit_for_bit(saved):
    folder, setup, state = saved
    whole, losses = setup.train(jax.tree.map(lambda x: x.copy(), state), 3, 6)
    again = setup_on()
    restored = Checkpoints(folder).restore(again.abstract, abstract_like(again.parts.fixed))
    assert restored.loader == {"next": 3}
    halves, more = again.train(restored.state, 3, 6)
    assert losses == more and same(whole, halves)


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=8), MeshConfig(fsdp=2, tensor=2)], ids=str)
def test_a_checkpoint_restores_onto_another_mesh(saved, mesh):
    folder, _, state = saved
    other = setup_on(mesh)
    restored = Checkpoints(folder).restore(other.abstract, abstract_like(other.parts.fixed))
    assert same(restored.state, state)
    assert restored.state.params["blocks"]["qkv"].get_raw_value().sharding.mesh.shape == other.mesh.shape


def test_the_average_is_restored_alone(saved):
    folder, setup, state = saved
    ema, fixed = Checkpoints(folder, read_only=True).restore_ema(setup.abstract.ema, abstract_like(setup.parts.fixed))
    assert same(ema, state.ema) and same(fixed, setup.parts.fixed)


def test_meta_is_there_and_old_checkpoints_go(saved):
    folder, setup, state = saved
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.meta() == {"panel": ["a"]}
    for step in (4, 5):
        checkpoints.save(step, state, setup.parts.fixed, {}, {})
    checkpoints.close()
    assert {path.name for path in folder.iterdir()} >= {"4", "5"} and not (folder / "3").exists()


def test_a_missing_checkpoint_is_named(tmp_path, saved):
    with pytest.raises(CheckpointError, match=r"does not hold a checkpoint \(complete ones: none\)"):
        Checkpoints(tmp_path / "empty").meta()
    with pytest.raises(CheckpointError, match=r"step 9 \(complete ones: 3\)"):
        Checkpoints(saved[0]).meta(9)
