"""The table of runs, references to the best of them, and what two of them differ in."""

import json
import shutil

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.registry.entries import RunEntry
from experiments.registry.scores import better
from experiments.runs import RunFolder, find_run
from tests.experiments.registry.folders import add_evaluation


@pytest.fixture
def several(runs, tmp_path):
    """Three runs of the same settings, two of them evaluated; the third has another learning rate."""
    trained = next(runs.glob("*/tiny"))
    for name in ("one", "two", "three"):
        folder = tmp_path / "perturb" / name
        folder.mkdir(parents=True)
        for file in ("config.json", "metrics.jsonl"):
            shutil.copy(trained / file, folder / file)
    add_evaluation(tmp_path / "perturb" / "one", "test-3", "test", nats=900.0, pds=0.7, mae=0.1)
    add_evaluation(tmp_path / "perturb" / "two", "test-3", "test", nats=950.0, pds=0.8, mae=0.2)
    add_evaluation(tmp_path / "perturb" / "two", "val-3", "val", nats=1.0, pds=0.1, mae=0.2)
    config = tmp_path / "perturb" / "three" / "config.json"
    changed = json.loads(config.read_text())
    changed["experiment"]["optimizer"]["learning_rate"] = 0.5
    config.write_text(json.dumps(changed))
    return tmp_path


def listed(said: str) -> list[str]:
    return [line.split()[1] for line in said.splitlines()[1:]]


def test_runs_are_sorted_and_filtered_by_what_they_reached(several, capsys):
    assert run(["runs", "--runs", str(several), "--sort", "nats"]) == 0
    assert listed(capsys.readouterr().out) == ["one", "two", "three"]
    assert run(["runs", "--runs", str(several), "--sort", "pds", "--filter", "run=t"]) == 0
    said = capsys.readouterr().out
    assert listed(said) == ["two", "three"] and "0.800" in said
    assert run(["runs", "--runs", str(several), "--filter", "experiment=demo"]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_what_cannot_be_sorted_or_filtered_is_said(several, capsys):
    assert run(["runs", "--runs", str(several), "--sort", "planted"]) == 0
    assert "no run has planted on test" in capsys.readouterr().err
    assert run(["runs", "--runs", str(several), "--filter", "run=one,run=two"]) == 2
    assert "names a column twice" in capsys.readouterr().err


def test_a_registry_of_no_folder_is_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LINGSHU_REGISTRY", raising=False)
    assert run(["runs", "--rebuild", "--runs", str(tmp_path / "typo")]) == 2
    assert "is no folder of runs" in capsys.readouterr().err and not (tmp_path / "typo").exists()


def test_the_best_run_is_found_by_metric_and_part(several):
    assert find_run("best:pds@test", several).id == "two"
    assert find_run("best:mae@test", several).id == find_run("best:nats@test", several).id == "one"
    assert find_run("best:nats", several).id == "two"
    with pytest.raises(InputError, match=r"no metric 'psd' \(nearest: pds"):
        find_run("best:psd@test", several)
    with pytest.raises(InputError, match="no run was evaluated by mmd on test"):
        find_run("best:mmd@test", several)
    with pytest.raises(InputError, match="write best:METRIC@val or"):
        find_run("best:pds@train", several)


def test_runs_of_other_splits_are_not_ranked(several):
    config = several / "perturb" / "one" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"split_hash": "other"}))
    with pytest.raises(InputError, match="2 different splits"):
        find_run("best:pds@test", several)


def test_one_run_is_shown_and_two_are_compared(several, capsys):
    assert run(["runs", "show", "two", "--runs", str(several)]) == 0
    said = capsys.readouterr().out
    assert (
        "val-3" in said and "test-3" in said and RunFolder(several / "perturb" / "two").config()["store_hash"] in said
    )
    assert run(["runs", "diff", "one", "three", "--runs", str(several)]) == 0
    said = capsys.readouterr().out
    assert "optimizer.learning_rate" in said and "0.5" in said and "nats (test)" in said
    assert run(["runs", "compare", "one", "--runs", str(several)]) == 2
    assert "lingshu runs diff RUN RUN" in capsys.readouterr().err


def test_a_damaged_evaluation_is_left_out(several):
    (several / "perturb" / "one" / "evaluations" / "test-3" / "metrics.json").write_text("{")
    assert RunEntry.read(RunFolder(several / "perturb" / "one")).scores == ()
    assert find_run("best:pds@test", several).id == "two"


def test_every_metric_has_a_better_end():
    assert better("nats", 1.0, 2.0) and better("pds", 2.0, 1.0)
