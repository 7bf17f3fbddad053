"""Where a store can lie, and how it gets there."""

import errno
import json
import pathlib
import resource

import anndata
import numpy as np
import pytest

from data_pipelines import CellStore, Columns, InputError, ingest
from data_pipelines.ingestion import target
from data_pipelines.ingestion.engine import Local
from data_pipelines.ingestion.work import Work
from data_pipelines.location import Location


@pytest.fixture
def file(tmp_path):
    anndata.AnnData(np.ones((6, 3))).write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


@pytest.mark.parametrize(
    ("out", "match"),
    [
        ("file.txt", "file.txt is no folder: no store can lie there"),
        ("file.txt/s", "file.txt is no folder: no store can lie there"),
        ("link", "link is a link to nothing"),
        ("", "'' is no path"),
        ("a\0b", r"'a\\x00b' is no path"),
        ("n" * 300, r"is too long a name \(300 bytes\)"),
        ("n" * 240, r"is too long a name \(240 bytes\)"),
        ("s3:///x", "s3:///x names no bucket"),
        ("gs://", "gs:// names no bucket"),
        ("file:/tmp/s", "is no file URL of this machine"),
        ("file://localhost/tmp/s", "is no file URL of this machine"),
    ],
)
def test_places_that_cannot_hold_a_store_are_refused_before_any_work(out, match, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file.txt").write_text("x")
    pathlib.Path("link").symlink_to("nowhere")
    monkeypatch.setattr("data_pipelines.ingestion.inputs.find_inputs", lambda *_, **__: pytest.fail("input was read"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=match) as caught:
        ingest(file, out, columns=Columns(), scratch=tmp_path / "scratch")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_work_folder_on_another_file_system_is_copied_from_and_gone_on_with(file, tmp_path, monkeypatch):
    rename, copy, copied = pathlib.Path.rename, target.shutil.copyfile, []

    def across(self, other):
        if self.name == "store":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, other)

    def interrupted(one, other):
        if len(copied) == 5:
            raise KeyboardInterrupt
        copied.append(one)
        return copy(one, other)

    whole = ingest(file, tmp_path / "whole", columns=Columns())
    monkeypatch.setattr(pathlib.Path, "rename", across)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(target.shutil, "copyfile", interrupted)
        ingest(file, tmp_path / "s", columns=Columns(), scratch=tmp_path / "scratch")
    assert not (tmp_path / "s").exists()
    again = []
    monkeypatch.setattr(target.shutil, "copyfile", lambda one, other: again.append(one) or copy(one, other))
    store = ingest(file, tmp_path / "s", columns=Columns(), scratch=tmp_path / "scratch")
    assert again and not set(again) & set(copied)
    assert all(store.path.read(key) == whole.path.read(key) for key in whole.path.list_keys())
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5ad", "whole", "s", "scratch"}


def test_a_kill_after_the_end_leaves_nothing_for_the_next_time(file, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Work, "remove", lambda self: None)
        store = ingest(file, tmp_path / "s", columns=Columns())
    assert json.loads((tmp_path / ".s.partial" / "plan.json").read_text())["identity"] == store.hash
    ingest(file, tmp_path / "s", columns=Columns())
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5ad", "s"}


def test_a_store_in_memory_is_written_by_this_process(file, tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.ingestion.engine._WORTH_A_POOL", 1)
    monkeypatch.setattr("data_pipelines.ingestion.engine._pool", lambda _: pytest.fail("a process was started"))
    monkeypatch.setattr("data_pipelines.ingestion.matrix.MOST_ROWS", 2)
    store = ingest(file, f"memory://{tmp_path.name}", columns=Columns(), engine=Local(2), scratch=tmp_path / "scratch")
    assert store.counts(np.arange(6)).sum() == 18


def test_a_disk_that_is_full_while_shards_are_written_is_named_and_nothing_lost(file, tmp_path, monkeypatch):
    """A limit on the size of files stands for the full disk."""
    from data_pipelines.ingestion import shards

    gather, limits = shards._gather, resource.getrlimit(resource.RLIMIT_FSIZE)

    def then_full(*arguments):
        found = gather(*arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
        return found

    monkeypatch.setattr(shards, "_gather", then_full)
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            ingest(file, tmp_path / "s", columns=Columns())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / ".s.partial" / "store" / "X")
    assert not (tmp_path / "s").exists()
    monkeypatch.setattr(shards, "_gather", gather)
    assert ingest(file, tmp_path / "s", columns=Columns()).n_cells == 6


def test_an_array_that_is_not_written_whole_is_named(file, tmp_path, monkeypatch):
    def cut(*_, **__):
        raise OSError("6 requested and 0 written")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device") as caught:
        patched.setattr("numpy.save", cut)
        ingest(file, tmp_path / "s", columns=Columns())
    assert caught.value.filename == str(tmp_path / ".s.partial" / "destination.npy")


@pytest.mark.parametrize("cells", [1, 2])
def test_too_few_cells_for_a_split_are_refused(cells, tmp_path):
    anndata.AnnData(np.ones((cells, 3))).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=f"{cells} cells are too few"):
        ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5ad"]


def test_the_place_of_a_file_is_no_store(file):
    with pytest.raises(InputError, match=r"a\.h5ad cannot be reached"):
        CellStore.open(Location(file))
