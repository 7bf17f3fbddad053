"""A registry that was made once: making its tables takes longer than any test of it."""

import pathlib
import shutil
import sqlite3

import pytest

from experiments.registry.index import MlflowIndex
from experiments.registry.place import RegistryPlace
from experiments.runs import RunFolder
from tests.experiments.registry.folders import copy_run


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory) -> pathlib.Path:
    file = tmp_path_factory.mktemp("registry") / "registry.db"
    MlflowIndex.open(RegistryPlace(f"sqlite:///{file}", file))
    with sqlite3.connect(file) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    return file


@pytest.fixture
def root(tmp_path, empty_registry, monkeypatch) -> pathlib.Path:
    """RUNS with an empty registry that is switched on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LINGSHU_REGISTRY")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "runs"
    root.mkdir()
    shutil.copy(empty_registry, root / "registry.db")
    return root


@pytest.fixture
def folder(runs, root) -> RunFolder:
    """A finished run, `one`, that is in no registry yet."""
    return RunFolder(copy_run(runs, root / "perturb" / "one"))
