import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import load_run
from experiments.__main__ import run
from experiments.runs import RunFolder, find_run, locked
from tests.experiments.conftest import train_arguments

SHORT = "--training.steps 12 --training.log-every 4 --training.evaluate-every 6 --training.save-every 6".split()


def test_a_run_leaves_everything_it_should(runs):
    folder = find_run("tiny", runs)
    assert {"config.json", "environment.json", "metrics.jsonl", "checkpoints"} <= {
        p.name for p in folder.path.iterdir()
    }
    metrics = folder.read_metrics()
    assert [entry["step"] for entry in metrics if "val_nats" in entry] == [0, 6, 12]
    assert [entry["step"] for entry in metrics if "loss" in entry] == [4, 8, 12]
    assert folder.experiment().training.steps == 12


def test_a_finished_run_says_so(store, runs, capsys):
    assert run(train_arguments(store, runs, "--run", "tiny", *SHORT)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "is already finished at step 12" in printed[0]
    assert printed[-1].startswith("next: lingshu sample tiny --split test")


def test_another_experiment_under_the_same_name_is_refused(store, runs, capsys):
    assert run(train_arguments(store, runs, "--run", "tiny", "--training.steps", "13")) == 2
    assert "training.steps: 12 -> 13" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "latest", "-x y", "n" * 200])
def test_names_that_no_reference_finds_are_refused(name, store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, f"--run={name}")) == 2
    assert "is no name for a run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name != ".compilation-cache"] == []


def test_a_run_is_trained_by_one_process_at_a_time(store, runs, capsys):
    with locked(find_run("tiny", runs)):
        assert run(train_arguments(store, runs, "--run", "tiny", *SHORT)) == 2
    assert "is being trained by another process" in capsys.readouterr().err


def test_a_mesh_that_does_not_fit_is_refused(store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, "--mesh.fsdp", "3")) == 2
    assert "need a multiple of 3 devices, there are 8. Nearest: --mesh.data" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_runs_lists_the_run(runs, capsys):
    assert run(["runs", "--runs", str(runs)]) == 0
    assert "tiny" in capsys.readouterr().out


def test_a_checkpoint_needs_nothing_else(runs, tmp_path):
    """The run folder alone, moved, is enough to load and sample."""
    import shutil

    import pandas as pd

    moved = tmp_path / "moved"
    shutil.copytree(find_run("tiny", runs).path, moved)
    loaded = load_run(str(moved))
    table = pd.DataFrame({"cell_line": ["line_A"], "target_gene": ["non-targeting"], "n_cells": [3]})
    cells = loaded.sample(table)
    assert cells.shape == (3, 60) and np.issubdtype(cells.X.dtype, np.integer)


def start(arguments, cwd) -> subprocess.Popen:
    environment = {**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_line(process, pattern) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError(f"{pattern!r} was not said:\n{''.join(said)}")


def wait_for_checkpoint(folder: pathlib.Path, process, *, after: int) -> int:
    """The first complete checkpoint beyond a step, as soon as it is there."""
    while process.poll() is None:
        steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        if max(steps, default=0) > after:
            return max(steps)
        time.sleep(0.02)
    raise AssertionError(f"the run ended before a checkpoint beyond step {after}:\n{process.stdout.read()}")


def losses(folder: RunFolder) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in folder.read_metrics() if "loss" in entry}


@pytest.mark.slow
def test_killed_and_started_again_it_goes_on_as_if_nothing_had_happened(store, tmp_path):
    root = pathlib.Path(__file__).parent.parent.parent
    settings = (
        "--training.steps 150 --training.log-every 1 --training.evaluate-every 150 --training.save-every 10".split()
    )
    whole = start(train_arguments(store, tmp_path, "--run", "whole", *settings), root)
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    arguments = train_arguments(store, tmp_path, "--run", "killed", *settings)
    saved = 0
    for _ in range(2):
        process = start(arguments, root)
        saved = wait_for_checkpoint(tmp_path / "perturb" / "killed" / "checkpoints", process, after=saved)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    last = start(arguments, root)
    said, _ = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert int(re.search(r"resumes at step (\d+)", said)[1]) >= saved
    expected, found = (losses(find_run(name, tmp_path)) for name in ("whole", "killed"))
    assert found == expected and sorted(found) == list(range(1, 151))


@pytest.mark.slow
def test_sigterm_saves_and_asks_to_be_started_again(store, tmp_path):
    root = pathlib.Path(__file__).parent.parent.parent
    arguments = train_arguments(
        store, tmp_path, "--run", "stopped", "--training.log-every", "1", "--training.steps", "500"
    )
    process = start(arguments, root)
    wait_for_line(process, r"^step 3/500  loss")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "the same command goes on from there" in said
    step = int(re.search(r"stopped at step (\d+)", said)[1])
    assert (find_run("stopped", tmp_path).checkpoints / str(step)).is_dir()
    assert time.monotonic() - begin < 60


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert RunFolder(tmp_path).read_metrics() == [{"step": 1}]
