"""`train --dry-run` tells what a run would be, makes nothing, and its memory estimate is that of the compiler."""

import dataclasses

import jax
import pytest

from experiments.__main__ import run
from experiments.ahead_of_time import lower_training_step
from experiments.blueprint import Blueprint, Cells
from experiments.configs import load_experiment
from experiments.configs.sizes import DataShape
from experiments.experiment import Experiment
from experiments.hardware import here, named
from experiments.memory import estimate_memory
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh


def dry_run(capsys, *arguments: str) -> str:
    before = len(jax.live_arrays())
    assert run(["train", *arguments, "--dry-run"]) == 0
    assert len(jax.live_arrays()) == before
    return capsys.readouterr().out


def test_it_tells_mesh_shardings_weights_flops_and_memory(capsys):
    said = dry_run(capsys, "paper-s32", "--topology", "v5e:8x4", "--mesh.fsdp", "4")
    assert "565 patch positions" in said and "mesh on 32 x v5e (15.75 GiB each): data 8, fsdp 4 (set), tensor 1" in said
    gate = next(line for line in said.splitlines() if "blocks.gate" in line)
    assert gate.split()[1:3] == [f"{13 * 640 * 2560:,}", f"{13 * 640 * 2560 // 4:,}"] and "(-, fsdp, tensor)" in gate
    assert "TFLOP as the paper writes it" in said and "of 15.75" in said and "warning" not in said


def test_it_knows_the_cells_of_a_store(store, tmp_path, capsys):
    said = dry_run(capsys, "perturb", "--size", "tiny", "--store", str(store), "--runs", str(tmp_path))
    assert "60 genes in 8 patch positions" in said and "condition_tokens.tables.target_gene" in said
    assert "mesh on 8 x cpu" in said
    assert not list(tmp_path.iterdir())


def test_few_cells_per_chip_come_with_three_ways_out(capsys):
    said = dry_run(capsys, "paper-s8", "--topology", "v5e:16x16")
    assert "warning: 1 cell per chip" in said and "--mesh.tensor 2" in said and "fewer chips: 32" in said
    assert "--training.batch-size 2048 --optimizer.learning-rate 0.00085" in said  # 3e-4 * sqrt(8)


def test_what_does_not_fit_comes_with_ways_that_there_are(capsys):
    said = dry_run(capsys, "paper-s8", "--topology", "v5e:1x1")
    assert "this does not fit. Use more devices, or take a step in more parts (--training.microbatches 2)." in said
    said = dry_run(capsys, "paper-s8", "--topology", "v5e:1x1", "--training.microbatches", "8")
    assert "does not fit" not in said


REFUSED = {
    "an impossible mesh": (["paper-s8", "--dry-run", "--devices", "8", "--mesh.tensor", "4"], "Nearest: --mesh.data"),
    "too many chips": (["paper-s8", "--dry-run", "--topology", "v5p:8x8x16"], "Use 640 devices"),
    "an unknown chip": (["paper-s8", "--dry-run", "--topology", "v7:4x4"], "CHIP one of v5e"),
    "no devices": (["paper-s8", "--dry-run", "--devices", "0"], "must lie in 1..1,000,000"),
    "both": (["paper-s8", "--dry-run", "--devices", "8", "--topology", "v5e:2x4"], "Leave --devices out"),
    "a topology to train on": (["paper-s8", "--topology", "v5e:2x4"], "Pass --dry-run"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_requests_are_one_line(what, capsys):
    arguments, reason = REFUSED[what]
    assert run(["train", *arguments]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1


def of_compiled(blueprint: Blueprint, mesh: MeshConfig) -> int:
    batch = blueprint.experiment.training.batch_size
    lowered = lower_training_step(blueprint, make_mesh(mesh), cells=batch)
    memory = lowered.compile().memory_analysis()
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes


def sized(size: str, batch: int, genes: int) -> Experiment:
    experiment = load_experiment("perturb", size=size, shape=DataShape(genes=genes))
    return dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, batch_size=batch))


SLOW = pytest.mark.slow
CASES = [
    (load_experiment("demo"), Cells(genes=1000, capacity=600), MeshConfig()),
    pytest.param(sized("tiny", 64, 18_080), Cells(), MeshConfig(), marks=SLOW),
    pytest.param(sized("small", 128, 18_080), Cells(), MeshConfig(fsdp=4), marks=SLOW),
    pytest.param(sized("small", 128, 18_080), Cells(), MeshConfig(tensor=2), marks=SLOW),
    pytest.param(sized("base", 256, 18_080), Cells(), MeshConfig(), marks=SLOW),
]


@pytest.mark.parametrize(("experiment", "cells", "mesh"), CASES, ids=lambda value: getattr(value, "name", None))
def test_the_memory_estimate_is_within_20_per_cent_of_the_compilers(experiment, cells, mesh):
    blueprint = Blueprint(dataclasses.replace(experiment, mesh=mesh), cells)
    settled = blueprint.mesh(here())
    assert estimate_memory(blueprint, settled, "cpu").total == pytest.approx(of_compiled(blueprint, settled), rel=0.2)


def test_arrays_between_steps_are_counted_exactly():
    """What the estimate calls state is what a step takes: arguments, to the byte."""
    blueprint = Blueprint(load_experiment("demo"), Cells(genes=1000, capacity=600))
    mesh = blueprint.mesh(here())
    lowered = lower_training_step(blueprint, make_mesh(mesh), cells=64)
    names = ("parameters", "moving average", "optimizer", "fixed arrays", "batch")
    parts = estimate_memory(blueprint, mesh, "cpu").parts
    takes = sum(
        leaf.dtype.itemsize * leaf.size // (8 if "batch" in str(path) else 1)
        for path, leaf in jax.tree_util.tree_leaves_with_path(lowered.in_avals)
    )
    held = sum(parts[name] for name in names)
    assert held == pytest.approx(takes, rel=0.05)


def test_memory_falls_with_fsdp_and_grows_with_the_batch():
    hardware = named("v5e:4x4")

    def total(batch: int, **mesh: int) -> float:
        experiment = dataclasses.replace(load_experiment("paper-s32"), mesh=MeshConfig(**mesh))
        blueprint = Blueprint(experiment, Cells(), batch)
        return estimate_memory(blueprint, blueprint.mesh(hardware), "tpu").total

    assert total(256, fsdp=16) < total(256, fsdp=4) < total(256, fsdp=1) < total(512, fsdp=1)
