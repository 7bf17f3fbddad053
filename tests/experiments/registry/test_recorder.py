"""The process beside a job: it follows, replays what could not be written, and never holds the job up."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.registry.recorder import Recorder
from experiments.runs import RunFolder
from tests.experiments.conftest import train_arguments
from tests.experiments.registry.folders import add_evaluation, line, write_lines

SHORT = "--training.steps 2 --training.log-every 1 --training.evaluate-every 2 --training.save-every 2".split()


def recorded(file) -> list[tuple[str, str]]:
    """(name, status) of every run in a registry's file."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return sorted(connection.execute("select name, status from runs where lifecycle_stage = 'active'").fetchall())


def until(condition, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_jobs_are_recorded_by_a_process_of_their_own(folder, root):
    with Recorder(folder, patience=120) as recorder:
        recorder.start()
        add_evaluation(folder.path, "test-12", "test", nats=900.0)
    assert recorded(root / "registry.db") == [("one", "FINISHED"), ("one evaluation test-12", "FINISHED")]


def test_a_run_in_training_is_followed_and_one_that_is_killed_is_so_recorded(folder, root):
    write_lines(folder.path, line(6, loss=2.0))
    code = (
        "import sys, time; from experiments.registry.recorder import Recorder; "
        "from experiments.runs import RunFolder; from experiments.storage import folder_at\n"
        "with Recorder(RunFolder(folder_at(sys.argv[1])), training=True) as recorder: recorder.start(); time.sleep(600)"
    )
    job = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], cwd=os.getcwd())
    try:
        until(lambda: recorded(root / "registry.db") == [("one", "RUNNING")])
    finally:
        job.send_signal(signal.SIGKILL)
        job.wait()
    until(lambda: recorded(root / "registry.db") == [("one", "KILLED")])


def test_a_server_that_is_down_stops_nothing_and_is_told_what_it_missed(folder, root, monkeypatch, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", down)
        with Recorder(folder, training=True, patience=120) as recorder:
            recorder.start()
    (said,) = [text for text in capfd.readouterr().err.splitlines() if text.startswith("warning:")]
    assert f"the registry {down} cannot be written" in said and "lingshu runs --rebuild" in said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with Recorder(folder, patience=120) as recorder:
        recorder.start()
    assert recorded(root / "registry.db") == [("one", "FINISHED")]


def test_a_server_that_hangs_is_not_waited_for(folder, monkeypatch, capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with Recorder(folder, patience=0.5) as recorder:
            recorder.start()
            process = recorder._process
    assert process is not None and process.returncode == -signal.SIGKILL
    assert "has not answered for" in capfd.readouterr().err


def test_it_can_be_switched_off(folder, root, monkeypatch):
    monkeypatch.setenv("LINGSHU_REGISTRY", "none")
    with Recorder(folder) as recorder:
        recorder.start()
    assert recorder._process is None and recorded(root / "registry.db") == []
    monkeypatch.setenv("LINGSHU_REGISTRY", "yes")
    with pytest.raises(InputError, match="Write none"):
        Recorder(folder)


@pytest.mark.slow
def test_training_goes_on_without_a_registry_and_is_recorded_by_the_next_job(store, root, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("experiments.train.REGISTRY_SECONDS", 120.0)
    assert run(train_arguments(store, root, "--run", "alone", *SHORT)) == 0
    assert "cannot be written" in capfd.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr("experiments.registry.recorder.PATIENCE_SECONDS", 120.0)
    sample = ["sample", "alone", "--split", "test", "--n", "1", "--runs", str(root)]
    assert run(sample) == 0
    found = recorded(root / "registry.db")
    assert ("alone", "FINISHED") in found and len(found) == 2
    assert RunFolder(root / "perturb" / "alone").config()["uid"]
