"""Tables of evaluations that are written down by hand."""

import dataclasses

import pytest

from data_pipelines.columns import Columns
from experiments.real_cells.bounds import Bounds
from experiments.real_cells.found import Found
from experiments.real_cells.populations import Populations
from experiments.real_cells.responses import LeftOut
from experiments.real_cells.seen import SeenEffects
from experiments.real_cells.targets import LeftOutTargets, share_of_random_ranks
from experiments.real_cells.task import STANDARD, BestValidation, DataSet, LastStep, Task
from experiments.runs import RunFolder
from tests.experiments.real_cells.made_up import bounds, condition, effects, evaluation, population

DATA = DataSet(file="x.h5ad", columns=Columns(), about="cells", source="nowhere")
TASK = Task(experiment="cells-of-x", data=DATA, reads=(), stop=LastStep())
PAIRS = (("pearson_delta", ("mean_effect",)),)


@pytest.fixture
def found(tmp_path):
    """Makes a `Found` of some evaluations, with a run folder of two checkpoints behind it."""
    run = RunFolder(tmp_path / "cells-of-x" / "abc123")
    for step in (50, 100):
        (run.checkpoints / str(step)).mkdir(parents=True)
    account = '"useful_seconds": 300.0, "lost_seconds": {"start": 60.0, "stopped": 9000.0}, "time": 1.0'
    lines = ['{"step": 50, "val_nats": 7.0}', '{"step": 60, "val_nats": 6.0}']
    run.metrics.write_text("\n".join([*lines, f'{{"step": 100, "val_nats": 8.0, {account}}}']) + "\n")
    (run.path / "environment.json").write_text('{"platform": "cpu", "cores": 2}')
    return lambda *evaluations: Found(TASK, STANDARD, run, evaluations)


def rows(table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_a_row_of_bounds_says_its_run_and_its_paired_differences(found):
    (row,) = rows(Bounds().table([found(evaluation(bound=bounds()))]))
    assert row["task"] == "cells-of-x" and row["model"] == "100.0" and row["held-out cells"] == "40"
    assert row["nb_depth"] == "108.0: -8.0 [-9.0, -7.0]" and row["nb_depth per label"] == "n/a"
    assert (row["run"], row["step"], row["on"], row["seeds"]) == ("`abc123`", "100", "2 cores", "1")
    assert row["minutes: training + evaluation"] == "6.0 + 1.0"  # the time between two starts does not count


def test_the_best_checkpoint_is_one_that_is_kept(found):
    run = found(evaluation()).run
    assert BestValidation().step(run) == 50 and LastStep().step(run) == 100


def test_populations_are_averaged_over_seeds_and_won_seed_by_seed(found):
    seeds = [population(0.2, 90.0, 0.6), population(0.4, 95.0, 0.6), population(0.6, 130.0, 0.6)]
    table = {row["cells"]: row for row in rows(Populations().table([found(*seeds)]))}
    assert table["model"]["MMD"] == "0.4000 ± 0.2000" and table["model"]["seeds"] == "3"
    assert table["model"]["type shares"] == "0.100 ± 0.000"
    wins = table["seeds in which the model is nearer than nb_depth"]
    assert (wins["MMD"], wins["library / real"], wins["type shares"], wins["W1"]) == (
        "2 of 3",
        "2 of 3",
        "3 of 3",
        "n/a",
    )


def test_left_out_conditions_are_averaged_and_paired(found):
    scores = [{"model": {"pearson_delta": a}, "mean_effect": {"pearson_delta": b}} for a, b in ((0.8, 0.6), (0.6, 0.5))]
    first, second = (evaluation(effects=effects(condition(f"d{i} | t", "stim", s))) for i, s in enumerate(scores))
    small = evaluation(effects=effects(condition("d2 | t", "stim", {}, reason="fewer than 30 real held-out cells")))
    table = LeftOut(columns=PAIRS).table([found(first), found(second), found(small)])
    lines = {row["left out"]: row for row in rows(table)}
    assert lines["d0, t: stim"]["Pearson-delta: model"] == "0.800" and lines["d0, t: stim"]["run"] == "`abc123`"
    assert lines["mean of 2"]["Pearson-delta: mean effect"] == "0.550"
    assert lines["model minus this"]["Pearson-delta: mean effect"].startswith("0.150 [")
    assert lines["d2, t: stim"]["Pearson-delta: model"] == "n/a"
    assert table.notes == ("Not scored (fewer than 30 real held-out cells): d2, t: stim.",)
    assert "| d0, t: stim | 40 | 0.800 | 0.600 |" in table.lines()[2]


def test_seen_effects_show_the_strong_ones_and_the_average_of_all(found):
    metrics = {"model": {"pearson_delta": 0.72}, "training_mean": {"pearson_delta": 0.8}}
    one = evaluation(effects=effects(condition("c", "STRONG", metrics), condition("c", "WEAK", metrics)))
    strong, average = rows(SeenEffects(strong=("STRONG",)).table([found(one)]))
    assert strong["perturbation"] == "STRONG" and strong["model / training mean"] == "0.900"
    assert average["perturbation"] == "mean of all 2" and average["PDS: model"] == "0.750 [0.700, 0.800]"


def test_left_out_targets_are_tested_together(found):
    runs = [found(evaluation(effects=effects(condition("c", name, {"model": {"pds": 1.0}})))) for name in "xyz"]
    table = LeftOutTargets(columns=(("pds", ()),), refused=("NOPE",)).table(runs)
    assert table.notes[0].startswith("PDS of model: mean 1.000 of 3 targets, each ranked among 12 perturbations")
    assert "refuses them by name" in table.notes[-1] and table.notes[-1].endswith("NOPE.")


def test_random_ranks_reach_chance_half_the_time_and_the_top_as_often_as_counted():
    assert share_of_random_ranks([0.5] * 4, [11] * 4) == pytest.approx(0.55, abs=0.05)
    assert share_of_random_ranks([1.0, 1.0], [10, 10]) == pytest.approx(0.01, abs=0.004)


def test_readings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SeenEffects(strong=()).strong = ("x",)  # type: ignore[misc]
