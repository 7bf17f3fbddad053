"""Every task can be started: its experiment, split names and options are ones that the commands take."""

import pathlib

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.command_line import parse
from experiments.commands.evaluate import Evaluate
from experiments.configs import EXPERIMENTS
from experiments.real_cells.page import read_page
from experiments.real_cells.plan import Plan
from experiments.real_cells.tasks import all_tasks, chosen_tasks
from lingshu_jax.diffusion import SamplerConfig

TASKS = all_tasks()
PAPERS = {"paper-pbmc": 0.0, "paper-tissues": 0.0, "paper-vcc-h1": 2.0, "paper-parse-cytokine": 3.0}
ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_trains_its_own_experiment_on_named_splits(task):
    assert task.experiment in EXPERIMENTS
    names = [split.name for split in task.splits]
    assert len(set(names)) == len(names) and task.reads
    plan = Plan(runs=pathlib.Path("runs"), data=pathlib.Path("data"))
    for split in task.splits:
        experiment = plan.experiment(task, split)
        assert experiment.name == task.experiment and experiment.data.split == split.name
    options = parse(
        Evaluate, ["RUN", *task.evaluation], prog="", description="", default=Evaluate(run="", sampler=SamplerConfig())
    )
    assert options.min_cells <= 30


def test_what_is_held_out_of_the_same_data_shares_one_store():
    files = {task.data.file for task in TASKS.values()}
    assert len({task.data for task in TASKS.values()}) == len(files) == 9


def test_the_page_has_a_place_for_every_table():
    lines = read_page(ROOT / "docs" / "results.md")
    places = {reading.place(task) for task in TASKS.values() for reading in task.reads} | {"data", "commands"}
    assert {f"<!-- table: {name} -->" for name in places} <= set(lines)


def test_unknown_tasks_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no task 'pbmc-sort' \(nearest: pbmc-sorted"):
        chosen_tasks(("pbmc-sort",))
    assert [task.experiment for task in chosen_tasks(("pbmc3k", "pbmc-sorted"))] == ["pbmc-sorted", "pbmc3k"]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_four_are_planned_without_data(name, capsys):
    from experiments.configs import load_experiment

    assert run(["train", name, "--dry-run"]) == 0
    assert f"experiment {name}: 18,080 genes" in capsys.readouterr().out
    assert getattr(load_experiment(name).sampler.guidance, "scale", 0.0) == PAPERS[name]
