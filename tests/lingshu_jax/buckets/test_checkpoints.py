import jax
import numpy as np
import pytest
import tensorstore
from etils import epath
from orbax.checkpoint._src.serialization import tensorstore_utils

from lingshu_jax.buckets.checkpoints import FINISHED, key_value_store, teach_orbax
from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints, abstract_like
from tests.buckets import new_bucket, s3_server
from tests.lingshu_jax.training.setup import setup_on


@pytest.fixture(scope="module")
def saved():
    """Checkpoints of steps 3 and 4 in a bucket."""
    with s3_server() as environment:
        setup, folder = setup_on(), f"{new_bucket(environment)}/run/checkpoints"
        checkpoints = Checkpoints(folder, keep=2)
        for step in (3, 4):
            checkpoints.save(step, setup.init(), setup.parts.fixed, {"next": step}, {"panel": ["a"]})
        checkpoints.close()
        yield setup, epath.Path(folder)


def copied(folder: epath.Path, name: str) -> epath.Path:
    """The checkpoints under another name, to be damaged."""
    copy = folder.parent / name
    for step in ("3", "4"):
        _copy(folder / step, copy / step)
    return copy


def _copy(source: epath.Path, target: epath.Path) -> None:
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


def told(folder) -> tuple[int | None, list[str]]:
    said: list[str] = []
    return Checkpoints(folder, warn=said.append).latest_step(), said


def test_what_was_saved_is_restored(saved):
    setup, folder = saved
    restored = Checkpoints(folder).restore(setup.abstract, abstract_like(setup.parts.fixed))
    assert restored.loader == {"next": 4}
    pairs = zip(jax.tree.leaves(restored.state), jax.tree.leaves(setup.init()), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_one_that_is_not_finished_is_removed_and_not_called_damaged(saved):
    folder = copied(saved[1], "unfinished")
    (folder / "4" / FINISHED).unlink()
    assert told(folder) == (3, [])
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_a_damaged_one_is_set_aside(saved):
    folder = copied(saved[1], "damaged")
    (folder / "4" / "ema" / "manifest.ocdbt").write_text("x")
    step, (line,) = told(folder)
    assert step == 3 and "ema/manifest.ocdbt has 1 bytes of" in line
    assert (folder.parent / "damaged-checkpoints" / "4" / "ema").is_dir() and not (folder / "4").exists()
    (folder / "3" / "meta" / "metadata").unlink()
    with pytest.raises(CheckpointError, match=r"meta/metadata is missing.*No other is left"):
        Checkpoints(folder)


@pytest.mark.parametrize("scheme, driver", [("gs", "gcs"), ("s3", "s3")])
def test_arrays_go_to_the_bucket_through_tensorstore(scheme, driver, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    teach_orbax()
    spec = tensorstore_utils.build_kvstore_tspec(f"{scheme}://bucket/runs/4/ema", use_ocdbt=True)
    assert spec["base"].items() >= {"driver": driver, "bucket": "bucket", "path": "runs/4/ema"}.items()
    assert tensorstore.KvStore.Spec(spec).to_json()["driver"] == "ocdbt"


def test_another_s3_server_is_found_by_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    spec = key_value_store("s3://bucket/runs")
    assert spec["endpoint"] == "http://localhost:1" and spec["aws_credentials"] == {"type": "environment"}
