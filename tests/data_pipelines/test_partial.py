"""What killed writers left beside an output goes away with the next one; what living ones write does not."""

import subprocess
import sys

import pytest

from data_pipelines.partial import put_in_place, unfinished

LEAVES = """
import os, pathlib, signal, sys
from data_pipelines.partial import put_in_place, unfinished
out = pathlib.Path(sys.argv[1])
with unfinished(out, ".h5ad") as partial:
    if sys.argv[2] == "folder":
        partial.mkdir()
        pathlib.Path.rename = lambda path, target, rename=pathlib.Path.rename: (
            rename(path, target), os.kill(os.getpid(), signal.SIGKILL))
        put_in_place(partial, out)
    else:
        partial.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(out, kind: str) -> None:
    process = subprocess.run([sys.executable, "-c", LEAVES, str(out), kind])
    assert process.returncode == -9


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    out, other = tmp_path / "cells.h5ad", tmp_path / ".cells.h5ad.somebody-elses"
    other.write_text("kept")
    killed(out, "file")
    assert len(list(tmp_path.iterdir())) == 2
    with unfinished(out) as partial:
        partial.write_text("whole")
        put_in_place(partial, out)
    assert sorted(tmp_path.iterdir()) == [other, out] and out.read_text() == "whole"


def test_a_folder_that_was_moved_away_and_not_replaced_comes_back(tmp_path):
    out = tmp_path / "cells.zarr"
    out.mkdir()
    (out / "zarr.json").write_text("before")
    killed(out, "folder")
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt), unfinished(out):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [out] and (out / "zarr.json").read_text() == "before"


def test_what_a_living_writer_has_there_is_left_alone(tmp_path):
    out = tmp_path / "cells.h5ad"
    with unfinished(out, ".a") as mine, unfinished(out, ".b"):
        mine.write_text("mine")
        with unfinished(out, ".c"):
            assert mine.read_text() == "mine"
    assert not list(tmp_path.iterdir())


def test_what_another_machine_has_there_is_left_alone(tmp_path, monkeypatch):
    out = tmp_path / "cells.h5ad"
    killed(out, "file")
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    with unfinished(out):
        assert len(list(tmp_path.iterdir())) == 1
