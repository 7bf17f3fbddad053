"""Runs in a bucket: aliases lie there, the registry on this machine."""

import shutil

import pytest

from experiments.__main__ import run
from experiments.registry.place import RegistryPlace
from experiments.registry.record import write
from experiments.runs import RunFolder, find_checkpoint
from experiments.storage import folder_at
from tests.buckets import new_bucket, s3_server
from tests.experiments.registry.folders import add_evaluation


@pytest.fixture
def remote(folder):
    """RUNS in a bucket with the run `one`, evaluated."""
    add_evaluation(folder.path, "test-12", "test", nats=900.0)
    with s3_server() as environment:
        root = folder_at(f"{new_bucket(environment)}/runs")
        for file in (path for path in folder.path.rglob("*") if path.is_file()):
            (root / "perturb" / "one" / file.relative_to(folder.path)).write_bytes(file.read_bytes())
        (root / "perturb" / "one" / "checkpoints" / "12" / "commit_success.txt").write_bytes(b"")
        yield root


def test_a_run_in_a_bucket_is_recorded_on_this_machine_and_named(remote, empty_registry, tmp_path, capsys):
    place = RegistryPlace.of(remote)
    assert place is not None and place.file is not None and place.file.is_relative_to(tmp_path / "cache")
    place.file.parent.mkdir(parents=True)
    shutil.copy(empty_registry, place.file)
    assert write(RunFolder(remote / "perturb" / "one"), place) == ""
    assert run(["runs", "alias", "production", "one", "--runs", str(remote)]) == 0
    assert find_checkpoint("production", remote) == (RunFolder(remote / "perturb" / "one"), 12)
    assert run(["runs", "--runs", str(remote)]) == 0
    assert "production (12)" in capsys.readouterr().out
    assert run(["runs", "--rebuild", "--runs", str(remote)]) == 0
    assert "1 runs and 1 of their jobs recorded" in capsys.readouterr().out
    assert run(["runs", "unalias", "production", "--runs", str(remote)]) == 0
    assert not list((remote / "aliases").glob("*.json"))
