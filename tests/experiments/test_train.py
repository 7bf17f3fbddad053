import json
import pathlib
import re
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest

import lingshu_jax.training.step as step_module
from data_pipelines.errors import InputError
from experiments import load_run
from experiments.__main__ import run
from experiments.runs import RunFolder, find_run, locked
from tests.experiments.conftest import train_arguments
from tests.experiments.processes import start
from tests.lingshu_jax.training.setup import limit_files

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


def test_what_differs_is_listed_one_setting_a_line(store, runs, capsys):
    other = [
        "--model.width",
        "32",
        "--seed",
        "3",
        "--mesh.fsdp",
        "2",
        "--training.keep",
        "9",
        "--training.microbatches",
        "2",
    ]
    assert run(train_arguments(store, runs, "--run", "tiny", *SHORT, *other)) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("run 'tiny' was started with other settings. Use the same ones, or another --run name.")
    assert said[1:] == ["  model.width: 16 -> 32", "  seed: 0 -> 3"]


def test_a_run_goes_on_in_another_precision_and_says_so(store, runs, tmp_path, capsys):
    copy = RunFolder(tmp_path / "perturb" / "tiny")
    shutil.copytree(find_run("tiny", runs).path, copy.path)
    shutil.rmtree(copy.checkpoints / "12")
    other = ["--training.parameter-dtype", "bfloat16"]
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT, *other)) == 0
    said = capsys.readouterr()
    assert "resumes at step 6" in said.out and "--training.parameter-dtype float32 and goes on with" in said.err
    whole, mixed = losses(find_run("tiny", runs)), losses(copy)
    assert mixed[12] != whole[12] and mixed[12] == pytest.approx(whole[12], rel=0.02)
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT, *other, "--seed", "3")) == 2


def test_another_split_of_the_store_is_refused(store, runs, capsys):
    assert run(["split", str(store), "--name", "other", "--kind", "cells"]) == 0
    assert run(train_arguments(store, runs, "--run", "tiny", *SHORT, "--data.split", "other")) == 2
    said = capsys.readouterr().err
    assert "data.split: default -> other" in said and "split_hash: " in said


def damaged_copy(runs, folder: pathlib.Path, step: int = 12) -> RunFolder:
    """The finished run with one bit of a checkpoint's weights turned."""
    copy = RunFolder(folder / "perturb" / "tiny")
    shutil.copytree(find_run("tiny", runs).path, copy.path)
    files = (path for path in (copy.checkpoints / str(step) / "ema").rglob("*") if path.is_file())
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    return copy


def test_a_finished_run_with_a_damaged_end_is_trained_to_the_end_again(store, runs, tmp_path, capsys):
    copy = damaged_copy(runs, tmp_path)
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT)) == 0
    said = capsys.readouterr()
    assert "resumes at step 6" in said.out and "finished at step 12" in said.out
    (line,) = [line for line in said.err.splitlines() if "damaged" in line]
    assert re.search(r"checkpoint .*/12 is damaged: ema/.* is not what was written. The one of step 6 is used", line)
    assert losses(copy)[12] == losses(find_run("tiny", runs))[12]
    assert load_run(str(copy.path)).step == 12


def test_a_damaged_checkpoint_is_not_sampled_from(runs, tmp_path, capsys):
    copy = damaged_copy(runs, tmp_path)
    assert load_run(str(copy.path)).step == 6
    assert "/12 is damaged: ema/" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"/12 is damaged: ema/.*Take another one \(6\)"):
        load_run(str(copy.path), step=12)


def test_a_run_of_damaged_checkpoints_only_is_refused(store, runs, tmp_path, capsys):
    copy = damaged_copy(runs, tmp_path)
    (copy.checkpoints / "6" / "_CHECKPOINT_METADATA").unlink()
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT)) == 2
    assert "No other is left" in capsys.readouterr().err
    assert {path.name for path in copy.checkpoints.iterdir()} == {"6", "12"}


@pytest.mark.parametrize("text", ["", '{"ident', "[]", "{}", '{"identity": 3, "experiment": 4}', "\x00"])
def test_a_damaged_config_is_one_line(store, runs, tmp_path, capsys, text):
    copy = tmp_path / "perturb" / "tiny"
    shutil.copytree(find_run("tiny", runs).path, copy)
    (copy / "config.json").write_text(text)
    for command in (train_arguments(store, tmp_path, "--run", "tiny", *SHORT), ["sample", "tiny", "--runs", tmp_path]):
        assert run([*map(str, command)]) == 2
        assert re.fullmatch(r"lingshu \w+: .*config.json.*\n", capsys.readouterr().err)
    assert run(["runs", "--runs", str(tmp_path)]) == 0
    assert "warning: " in capsys.readouterr().err


def test_checkpoints_of_unknown_settings_are_refused(store, runs, tmp_path, capsys):
    copy = tmp_path / "perturb" / "tiny"
    shutil.copytree(find_run("tiny", runs).path, copy)
    (copy / "config.json").unlink()
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT, "--seed", "3")) == 2
    assert "holds checkpoints and no config.json" in capsys.readouterr().err
    assert not (copy / "config.json").exists()


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step_module, "training_loss", lambda *arguments: jnp.float32(jnp.nan))
    assert run(train_arguments(store, tmp_path, *SHORT, "--training.max-skipped", "3")) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lingshu train:")]
    assert "not finite in 3 steps in a row, the last one step 3 on batch {" in line
    assert "No checkpoint was saved before." in line and "--optimizer.learning-rate" in line


def test_an_end_that_cannot_be_saved_is_told_in_one_line(store, tmp_path, capsys):
    settings = "--training.steps 2 --training.evaluate-every 50 --training.save-every 1".split()
    limit_files(16_384)
    try:
        assert run(train_arguments(store, tmp_path, *settings)) == 2
    finally:
        limit_files(-1)
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("lingshu train:")]
    assert "the checkpoint of step 2 could not be saved (File too large)" in line and "Make room" in line
    assert "Traceback" not in said and "Training goes on; the next save tries again." in said


def test_a_profile_beyond_the_last_step_is_refused(store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, *SHORT, "--profile", "10:13")) == 2
    assert "--profile 10:13 reaches beyond the run's last step, 11. Write START:STOP with STOP <= 12" in (
        capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_beyond_the_last_step_is_anothers(store, runs, tmp_path, capsys):
    copy = RunFolder(tmp_path / "perturb" / "tiny")
    shutil.copytree(find_run("tiny", runs).path, copy.path)
    (copy.checkpoints / "12").rename(copy.checkpoints / "40")
    assert run(train_arguments(store, tmp_path, "--run", "tiny", *SHORT)) == 2
    assert "checkpoints/40 lies beyond the run's last step, 12: another run's. Move it away" in capsys.readouterr().err


def test_runs_in_a_folder_that_is_not_mounted_are_refused(store, tmp_path, capsys):
    (tmp_path / "runs").symlink_to(tmp_path / "not-mounted")
    assert run(train_arguments(store, tmp_path / "runs", *SHORT)) == 2
    assert "runs is a symbolic link to" in capsys.readouterr().err
    assert run(["runs", "--runs", str(tmp_path / "runs")]) == 2
    assert "not-mounted, which is not there. Mount or make that folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "", "latest", "-x y", "n" * 200])
def test_names_that_no_reference_finds_are_refused(name, store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, f"--run={name}")) == 2
    assert "is no name for a run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name != ".compilation-cache"] == []


def test_a_run_is_trained_by_one_process_at_a_time(store, runs, capsys):
    with locked(find_run("tiny", runs)):
        assert run(train_arguments(store, runs, "--run", "tiny", *SHORT)) == 2
    assert "is being trained by another process" in capsys.readouterr().err


def test_an_attention_that_is_for_another_machine_is_refused(store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, "--model.attention", "pallas_tpu")) == 2
    assert "--model.attention pallas_tpu cannot be used here: it is for TPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_mesh_that_does_not_fit_is_refused(store, tmp_path, capsys):
    assert run(train_arguments(store, tmp_path, "--mesh.fsdp", "3")) == 2
    assert "need a multiple of 3 devices, there are 8. Nearest: --mesh.data" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_runs_lists_the_run(runs, capsys):
    assert run(["runs", "--runs", str(runs)]) == 0
    assert "tiny" in capsys.readouterr().out


def test_a_checkpoint_needs_nothing_else(runs, tmp_path):
    """The run folder alone, moved, is enough to load and sample."""
    import pandas as pd

    moved = tmp_path / "moved"
    shutil.copytree(find_run("tiny", runs).path, moved)
    loaded = load_run(str(moved))
    table = pd.DataFrame({"cell_line": ["line_A"], "target_gene": ["non-targeting"], "n_cells": [3]})
    cells = loaded.sample(table)
    assert cells.shape == (3, 60) and np.issubdtype(cells.X.dtype, np.integer)


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
    settings = (
        "--training.steps 150 --training.log-every 1 --training.evaluate-every 150 --training.save-every 10".split()
    )
    whole = start(train_arguments(store, tmp_path, "--run", "whole", *settings))
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    arguments = train_arguments(store, tmp_path, "--run", "killed", *settings)
    saved = 0
    for _ in range(2):
        process = start(arguments)
        saved = wait_for_checkpoint(tmp_path / "perturb" / "killed" / "checkpoints", process, after=saved)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    last = start(arguments)
    said, _ = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert int(re.search(r"resumes at step (\d+)", said)[1]) >= saved
    expected, found = (losses(find_run(name, tmp_path)) for name in ("whole", "killed"))
    assert found == expected and sorted(found) == list(range(1, 151))


@pytest.mark.slow
def test_sigterm_saves_and_asks_to_be_started_again(store, tmp_path):
    arguments = train_arguments(
        store, tmp_path, "--run", "stopped", "--training.log-every", "1", "--training.steps", "500"
    )
    process = start(arguments)
    wait_for_line(process, r"^step 3/500  loss")
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "the same command goes on from there" in said
    step = int(re.search(r"stopped at step (\d+)", said)[1])
    assert (find_run("stopped", tmp_path).checkpoints / str(step)).is_dir()
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 2, "lo',
        b"\xfe\x00\xff",
        b"[1]",
        b"{}",
        b'{"step": "x"}',
        b'{"step": 2, "loss": "x"}',
        b'{"step": 2, "useful_seconds": 1, "time": null, "lost_seconds": {}}',
        b'{"step": 2, "useful_seconds": 1, "time": 2, "lost_seconds": 3}',
    ],
)
def test_a_damaged_line_of_metrics_is_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n" + json.dumps({"step": 1}).encode() + b"\n" + line)
    assert RunFolder(tmp_path).read_metrics() == [{"step": 1}]
