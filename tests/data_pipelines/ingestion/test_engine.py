"""Tasks in processes of this machine."""

import pathlib
import threading

import pytest

from data_pipelines import InputError
from data_pipelines.ingestion.engine import Local


def _write_or_refuse(arguments):
    """The first task refuses once the other one has begun; the other one takes a while to write."""
    folder, number = arguments
    if number:
        (folder / "begun").touch()
        threading.Event().wait(0.5)
        (folder / "written").touch()
        return
    while not (folder / "begun").exists():
        threading.Event().wait(0.01)
    raise InputError("no")


def test_whoever_hears_of_a_mistake_finds_no_task_at_work(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.setattr("data_pipelines.ingestion.engine._WORTH_A_POOL", 1)
    with Local(2).open() as (runner, _):
        with pytest.raises(InputError, match="no"):
            list(runner.run(_write_or_refuse, [(tmp_path, 0), (tmp_path, 1)]))
        assert (tmp_path / "written").exists()
