"""Tables of studies from run folders that are written down by hand."""

import dataclasses
import json
import pathlib

import pytest

from experiments import runs as run_folders
from experiments.ablations import studies, tables
from experiments.ablations.study import BASE, Study, Variant
from experiments.config_json import to_json
from experiments.configs.pbmc_ifnb_two_donors import DATA
from experiments.real_cells.plan import Plan
from experiments.real_cells.task import Task

WIDE = Variant(name="wide", settings=("--model.width", "128", "--model.heads", "2"))
DEEP = Variant(name="deep", settings=("--model.blocks", "4"))
STUDY = Study(
    name="size",
    task=Task(experiment="pbmc-ifnb-two-donors", data=DATA, reads=()),
    settings=("--training.steps", "40"),
    variants=(WIDE, DEEP),
)


@pytest.fixture
def plan(tmp_path):
    return Plan(runs=tmp_path / "runs")


def finished(plan: Plan, variant: Variant, seed: int, nats: list[float]) -> pathlib.Path:
    """A run folder as a training leaves it, with these bounds on validation cells."""
    experiment = STUDY.plan(plan, variant, seed).experiment(STUDY.task, STUDY.task.splits[0])
    path = plan.runs / experiment.name / f"{variant.name}-{seed}"
    config = {"experiment": to_json(experiment), "identity": "i", "store": "s", "store_hash": "s", "split": "cells"}
    run_folders.create(path, config | {"split_hash": "h"}, {})
    (path / "checkpoints" / "40").mkdir(parents=True)
    entries = [{"step": 20 * i, "val_nats": value} for i, value in enumerate(nats)]
    entries.append({"step": 40, "useful_seconds": 60.0, "lost_seconds": {"start": 60.0, "stopped": 900.0}, "time": 1.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_variants_stand_beside_the_base_paired_by_seed(plan):
    for seed, (base, wide) in enumerate([(100.0, 98.0), (110.0, 107.0)]):
        finished(plan, BASE, seed, [base + 5, base, base + 1])
        finished(plan, WIDE, seed, [wide + 9, wide])
    lines = tables.study_table(plan, STUDY, seeds=3)
    base, wide = map(cells, lines[2:4])
    assert base[:6] == ["base", "", "0, 1", "105.0 ± 7.1", "", "2.0"]
    assert wide[:5] == ["wide", "`--model.width 128 --model.heads 2`", "0, 1", "102.5 ± 6.4", "-2.5 ± 0.7"]
    assert "Not run: deep." in lines
    assert "lingshu train pbmc-ifnb-two-donors --store runs/stores/" in lines[-1] and str(plan.runs) not in lines[-1]


def test_a_difference_needs_the_base_of_the_same_seed(plan):
    finished(plan, BASE, 0, [100.0])
    finished(plan, WIDE, 1, [90.0])
    assert cells(tables.study_table(plan, STUDY, seeds=2)[3])[3:5] == ["90.0", "n/a"]


def test_without_runs_there_is_no_table(plan):
    assert tables.study_table(plan, STUDY, seeds=3) == []


@pytest.mark.parametrize("study", studies.STUDIES, ids=lambda study: study.name)
def test_every_variant_is_an_experiment_of_its_own(plan, study):
    split = study.task.splits[0]
    made = [
        study.plan(plan, variant, seed).experiment(study.task, split)
        for variant in study.all_variants
        for seed in (0, 1)
    ]
    assert len(set(made)) == len(made)
    assert {dataclasses.replace(one, seed=0).training.steps for one in made} == {400}
