"""`lingshu results` from files to tables: it does nothing twice, loses nothing, and says what it lacks.

Real files: LINGSHU_REAL_CELLS=FOLDER, with four_cell_lines.h5ad.
"""

import dataclasses
import importlib
import os
import pathlib
import shutil

import pytest

from data_pipelines.columns import Columns
from experiments import runs as run_folders
from experiments.__main__ import run
from experiments.config_json import to_json
from experiments.configs import EXPERIMENTS, demo
from experiments.experiment import DataConfig, Experiment
from experiments.real_cells import tasks
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.plan import Plan
from experiments.real_cells.populations import Populations
from experiments.real_cells.responses import LeftOut
from experiments.real_cells.task import STANDARD, DataSet, Task
from tests.experiments.real_cells.made_up import bounds, evaluation

REAL = os.environ.get("LINGSHU_REAL_CELLS")
COLUMNS = Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",), batch="gem_group")
SCREEN = DataSet(file="screen.h5ad", columns=COLUMNS, about="a simulated screen", source="lingshu simulate")
ELSEWHERE = DataSet(file="elsewhere.h5ad", columns=Columns(), about="other cells", source="the package of elsewhere")
ONE = Task(
    experiment="tiny-one",
    data=SCREEN,
    reads=(Bounds(), LeftOut(columns=(("mae", ("mean_effect",)),))),
    evaluation=("--n", "match"),
)
TWO = Task(experiment="tiny-two", data=SCREEN, reads=(Bounds(), Populations()), seeds=2)
THREE = Task(experiment="tiny-three", data=ELSEWHERE, reads=(Bounds(),))
FAST = "--draws 2 --bound-cells 40 --training.steps 4 --training.save-every 2".split()


def tiny_one() -> Experiment:
    base = demo.experiment()
    model = dataclasses.replace(base.model, width=16, heads=1, ffn_width=32, blocks=1)
    training = dataclasses.replace(base.training, batch_size=32, evaluate_cells=32, evaluate_draws=1)
    return dataclasses.replace(base, name="tiny-one", model=model, training=training)


def tiny_two() -> Experiment:
    return dataclasses.replace(tiny_one(), name="tiny-two", data=DataConfig(context=False, perturbation=False))


def tiny_three() -> Experiment:
    return dataclasses.replace(tiny_two(), name="tiny-three")


@pytest.fixture
def two_tasks(monkeypatch, screen_file, tmp_path):
    """Arguments of a call on two tasks of a folder with the screen's file, and one whose file is missing."""
    for name, make in (("tiny_one", tiny_one), ("tiny_two", tiny_two), ("tiny_three", tiny_three)):
        monkeypatch.setattr(demo, name, make, raising=False)
        monkeypatch.setitem(EXPERIMENTS, name.replace("_", "-"), f"demo.{name}")
    monkeypatch.setattr(tasks, "all_tasks", lambda: {task.experiment: task for task in (ONE, TWO, THREE)})
    (tmp_path / "data").mkdir()
    shutil.copy(screen_file, tmp_path / "data" / "screen.h5ad")
    out = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "results.md")]
    return ["results", "--data", str(tmp_path / "data"), *out, *FAST]


def without(arguments: list[str], option: str) -> list[str]:
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


@pytest.mark.slow
def test_from_files_to_tables_through_kills_and_nothing_twice(two_tasks, tmp_path, capsys, monkeypatch):
    class Killed(BaseException):
        pass

    done: list[str] = []
    for command in ("ingest", "train", "evaluate"):
        module = importlib.import_module(f"experiments.commands.{command}")
        whole = module.run

        def interrupted(arguments, command=command, whole=whole):
            if command not in done:  # killed as it begins, the first time
                done.append(command)
                raise Killed
            done.append(command)
            return whole(arguments)

        monkeypatch.setattr(module, "run", interrupted)
    for _ in range(3):
        with pytest.raises(Killed):
            run(two_tasks)
    assert run(two_tasks) == 0
    assert done == ["ingest", "ingest", "train", "train", "evaluate", "evaluate", "train", "evaluate", "evaluate"]
    said = capsys.readouterr().out
    assert "elsewhere.h5ad is not there (the package of elsewhere)" in said and "$ lingshu train tiny-one" in said

    page = (tmp_path / "results.md").read_text()
    assert "| tiny-one | 40 |" in page and "| tiny-two | 40 |" in page and "Not run: tiny-three." in page
    assert "lingshu evaluate tiny-one/" in page and str(tmp_path) not in page
    assert "seeds in which the model is nearer than nb_depth per label" in page
    before = len(done)
    (tmp_path / "results.md").unlink()
    shutil.rmtree(tmp_path / "runs" / "stores")
    assert run([*without(two_tasks, "--data"), "--tables"]) == 0 and run(two_tasks) == 0
    again = (tmp_path / "results.md").read_text()
    assert sorted(again.splitlines()) == sorted(page.splitlines()) and len(done) == before


@pytest.mark.parametrize(
    "change, said",
    [
        (["--only", "tiny-on"], "no task 'tiny-on' (nearest: tiny-one"),
        (["--data", "nowhere"], "nowhere is no folder. Pass --data FOLDER"),
        (["--only", "tiny-three"], "has none of the files: elsewhere.h5ad"),
        (["--out", "broken.md"], "broken.md: the table 'bounds' has no end"),
        (["--training.stepz", "3"], "--training.stepz"),
        (["--draws", "1"], "--draws must be >= 2"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(two_tasks, tmp_path, monkeypatch, capsys, change, said):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("broken.md").write_text("<!-- table: bounds -->\n")
    assert run([*two_tasks, *change]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "results.md").exists() and not list(tmp_path.glob("runs/*/*"))


def test_a_task_that_cannot_be_done_does_not_stop_the_others(two_tasks, tmp_path, monkeypatch, capsys):
    from experiments.real_cells import work

    (tmp_path / "data" / "screen.h5ad").write_bytes(b"not a file of counts")
    assert run(two_tasks) == 2
    error = capsys.readouterr().err
    assert error.count("lingshu results: tiny-") == 2 and "screen.h5ad" in error

    def stopped(*arguments):
        raise work.StoppedEarly

    monkeypatch.setattr(work, "complete", stopped)
    assert run(two_tasks) == 75


def test_tables_are_of_finished_runs_with_exactly_these_settings(two_tasks, tmp_path, capsys):
    tables = [*without(two_tasks, "--data"), "--tables"]
    assert run(tables) == 0 and not (tmp_path / "results.md").exists()
    plan = Plan(
        runs=tmp_path / "runs",
        training=("--training.steps", "4", "--training.save-every", "2"),
        evaluation=("--draws", "2", "--bound-cells", "40"),
    )
    experiment = plan.experiment(ONE, STANDARD)
    config = {"experiment": to_json(experiment), "identity": "i", "store": "s", "store_hash": "h", "split": "cells"}
    folder = run_folders.create(plan.runs / "tiny-one" / "0123456789", config | {"split_hash": "h"}, {})
    (folder.checkpoints / "2").mkdir(parents=True)
    settings = dataclasses.asdict(plan.settings(ONE, folder, 0))
    made = {"bound": bounds(), "step": 4, "provenance": {"run": folder.id, "seed": 0}}
    evaluation(settings=settings, **made).save(folder.evaluations / "test-4-aaaaaa")
    assert run(tables) == 0 and not (tmp_path / "results.md").exists()  # not trained to its end
    (folder.checkpoints / "4").mkdir()
    assert run(tables) == 0
    page = (tmp_path / "results.md").read_text()
    assert "| tiny-one | 40 | 100.0 | 108.0: -8.0" in page
    assert "(results/bounds.png)" in page and (tmp_path / "results" / "bounds.png").read_bytes().startswith(b"\x89PNG")

    (tmp_path / "results.md").unlink()
    evaluation(settings=settings | {"draws": 16}, **made).save(folder.evaluations / "test-4-aaaaaa")
    assert run(tables) == 0 and not (tmp_path / "results.md").exists()
    assert "no run of a task is evaluated" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="LINGSHU_REAL_CELLS is not set")
def test_a_short_run_on_real_cells_stands_beside_the_baselines(tmp_path):
    out = tmp_path / "results.md"
    arguments = ["--data", str(REAL), "--only", "four-cell-lines", "--runs", str(tmp_path / "runs"), "--out", str(out)]
    assert run(["results", *arguments, "--training.steps", "10", "--draws", "2", "--bound-cells", "60"]) == 0
    (row,) = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| four-cell-lines | 60")]
    model, nb_depth = float(row[2]), row[3]
    assert 300 < model < 700 and nb_depth.count("[") == 1
