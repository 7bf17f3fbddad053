import errno
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints, SaveFailed, abstract_like
from tests.lingshu_jax.training.setup import full_disk, setup_on


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


def save_at(folder, steps, *, bounds=None, **options):
    setup = setup_on()
    state = setup.init()
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        held_out = {"val_nats": bounds[step]} if bounds else None
        checkpoints.save(step, state, setup.parts.fixed, {"next": step}, {}, held_out)
    checkpoints.close()


def steps_in(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_the_newest_the_best_and_every_nth_are_kept(tmp_path):
    bounds = {1: 5.0, 2: 3.0, 3: 4.0, 4: 3.5, 5: 6.0, 6: 7.0}
    save_at(tmp_path, [1, 2, 3, 4], bounds=bounds, keep=1, keep_every=3)
    assert Checkpoints(tmp_path, keep=1, keep_every=3).best() == 3.0
    save_at(tmp_path, [5, 6], bounds=bounds, keep=1, keep_every=3)
    assert steps_in(tmp_path) == [2, 3, 6]


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_one_before_is_used(tmp_path):
    folder = tmp_path / "checkpoints"
    save_at(folder, [1, 2, 3])
    file = largest_file(folder / "3" / "state")
    file.write_bytes(file.read_bytes()[:-1])
    (folder / "1" / "meta").rename(folder / "1" / "other")
    said = []
    checkpoints = Checkpoints(folder, warn=said.append)
    assert checkpoints.latest_step() == 2 and steps_in(folder) == [2]
    assert len(said) == 2 and all("The one of step 2 is used; it was moved to" in line for line in said)
    assert str(folder / "3") in said[1] and f"state/{file.relative_to(folder / '3' / 'state')} has" in said[1]
    assert {path.name for path in (tmp_path / "damaged-checkpoints").iterdir()} == {"1", "3"}
    checkpoints.close()
    save_at(folder, [3])
    assert steps_in(folder) == [2, 3]


def test_readers_move_nothing_and_refuse_the_damaged_one_by_name(tmp_path):
    save_at(tmp_path, [1, 2])
    largest_file(tmp_path / "2" / "ema").write_bytes(b"")
    said = []
    checkpoints = Checkpoints(tmp_path, read_only=True, items=("ema", "meta"), warn=said.append)
    assert checkpoints.latest_step() == 1 and steps_in(tmp_path) == [1, 2]
    assert len(said) == 1 and said[0].endswith("The one of step 1 is used.")
    assert checkpoints.meta() == {}
    with pytest.raises(CheckpointError, match=r"checkpoint .*/2 is damaged: ema/.* has 0 bytes of .* Take another"):
        checkpoints.meta(2)


def test_when_all_are_damaged_that_is_an_error(tmp_path):
    save_at(tmp_path, [1, 2])
    for step in ("1", "2"):
        (tmp_path / step / "_CHECKPOINT_METADATA").unlink()
    with pytest.raises(CheckpointError, match=r"/1 is damaged: _CHECKPOINT_METADATA is missing; .*No other is left"):
        Checkpoints(tmp_path)
    assert steps_in(tmp_path) == [1, 2]


def test_a_checkpoint_without_checksums_is_used_with_a_warning(tmp_path):
    save_at(tmp_path, [1, 2])
    (tmp_path / "2" / "checksums.json").unlink()
    said = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    assert checkpoints.latest_step() == 2 and checkpoints.meta() == {}
    assert said == [f"checkpoint {tmp_path / '2'} has no checksums.json: it is used unchecked."]


def test_a_checkpoint_without_checksums_that_cannot_be_read_is_named(tmp_path):
    save_at(tmp_path, [1, 2])
    (tmp_path / "2" / "checksums.json").unlink()
    (tmp_path / "2" / "meta" / "metadata").write_text("{")
    with pytest.raises(CheckpointError, match=r"/2 has no checksums.json and cannot be read. Move it away"):
        Checkpoints(tmp_path).meta()


def test_a_full_disk_fails_the_save_alone(tmp_path):
    setup = setup_on()
    state = setup.init()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, setup.parts.fixed, {"next": 1}, {})
    checkpoints.wait()
    with (
        full_disk(),
        pytest.raises(SaveFailed, match=r"^the checkpoint of step 2 could not be saved \(File too large\)$"),
    ):
        checkpoints.save(2, state, setup.parts.fixed, {"next": 2}, {})
        checkpoints.wait()
    assert checkpoints.latest_step() == 1
    checkpoints.save(3, state, setup.parts.fixed, {"next": 3}, {})
    checkpoints.close()
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3"}
    assert Checkpoints(tmp_path).latest_step() == 3


def test_a_folder_that_cannot_be_made_fails_the_save_and_holds_up_no_thread(tmp_path, monkeypatch):
    setup = setup_on()
    checkpoints, make = Checkpoints(tmp_path), os.mkdir

    def refuse(path, *args, **kwargs):
        if "orbax-checkpoint-tmp" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *args, **kwargs)

    before = set(threading.enumerate())
    with monkeypatch.context() as patch, pytest.raises(SaveFailed, match=r"\(Permission denied\)$"):
        patch.setattr(os, "mkdir", refuse)
        checkpoints.save(1, setup.init(), setup.parts.fixed, {"next": 1}, {})
        checkpoints.wait()
    late = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in late:
        thread.join(timeout=10)
    assert not [thread for thread in late if thread.is_alive() and "Pool" not in thread.name]


def test_a_folder_that_cannot_be_written_is_told_before_training(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError):
        Checkpoints(tmp_path)
    assert Checkpoints(tmp_path, read_only=True).latest_step() is None


def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    save_at(tmp_path, [1, 2])

    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr("lingshu_jax.training.integrity._expected", refuse)
    with pytest.raises(PermissionError):
        Checkpoints(tmp_path)
    assert steps_in(tmp_path) == [1, 2]


def test_parameters_restore_into_another_precision(saved):
    folder, setup, state = saved
    lower = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=leaf.sharding), setup.abstract.ema
    )
    ema, _ = Checkpoints(folder, read_only=True).restore_ema(lower, abstract_like(setup.parts.fixed))
    assert same(ema, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state.ema))
