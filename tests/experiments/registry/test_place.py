"""Where the registry is, and who may write."""

import pathlib
import sqlite3

import pytest

from data_pipelines.errors import InputError
from experiments.registry.index import MlflowIndex
from experiments.registry.place import RegistryPlace, local_file, on_network
from experiments.storage import folder_at

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/fast xfs rw 0 0
gcs /bucket fuse.gcsfuse rw 0 0
store /lustre/with\\040space lustre rw 0 0
overlay /container fuse.fuse-overlayfs rw 0 0
"""


def test_it_lies_beside_the_runs_unless_they_are_on_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert local_file(tmp_path / "runs") == tmp_path / "runs" / "registry.db"
    remote = local_file(folder_at("s3://bucket/runs"))
    assert remote.parent == tmp_path / "cache" / "lingshu_jax" / "registry"
    assert remote != local_file(folder_at("s3://bucket/others"))
    monkeypatch.setattr("experiments.registry.place.on_network", lambda folder: True)
    assert local_file(tmp_path / "runs").parent == remote.parent


def test_network_file_systems_are_told_by_the_mount_that_holds_a_folder(tmp_path):
    (tmp_path / "mounts").write_text(MOUNTS)
    folders = ("/home/me/runs", "/home/fast/runs", "/bucket", "/lustre/with space/runs", "/container/runs", "/runs")
    found = [on_network(pathlib.Path(folder), tmp_path / "mounts") for folder in folders]
    assert found == [True, False, True, True, False, False]
    assert not on_network(pathlib.Path("/home/me"), tmp_path / "no such file")


def test_the_environment_names_a_server_or_switches_it_off(tmp_path):
    assert RegistryPlace.of(tmp_path, {"LINGSHU_REGISTRY": "none"}) is None
    with pytest.raises(InputError, match="Write none, or leave it out"):
        RegistryPlace.of(tmp_path, {"LINGSHU_REGISTRY": "of"})
    server = RegistryPlace.of(tmp_path, {"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example:8080/path"})
    assert server is not None and server.file is None and server.shown == "https://mlflow.example:8080/path"
    file = RegistryPlace.of(tmp_path, {"MLFLOW_TRACKING_URI": "sqlite:////data/registry.db"})
    assert file is not None and file.file == pathlib.Path("/data/registry.db")


def test_one_process_writes_at_a_time(root):
    place = RegistryPlace.of(root)
    assert place is not None
    with place.written("a"), pytest.raises(TimeoutError, match="another process"), place.written("b", seconds=0.0):
        pass
    server = RegistryPlace("http://localhost:1")
    with server.written("a"), server.written("b", seconds=0.0):
        pass


def test_readers_do_not_wait_for_the_writer(root, monkeypatch, tmp_path):
    file = tmp_path / "made" / "registry.db"
    MlflowIndex.open(RegistryPlace(f"sqlite:///{file}", file))
    with sqlite3.connect(file) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert not [path for path in file.parent.iterdir() if "partial" in path.name]
