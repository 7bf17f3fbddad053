"""What a run reports: goodput over restarts, utilisation, memory, a trace of some steps."""

import math

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.accelerators import accelerator_of
from experiments.flops import StepFlops
from experiments.goodput import REPEATED, STOPPED, Goodput
from experiments.hardware import Hardware
from experiments.profiling import ProfiledSteps
from experiments.reporting import Scale
from experiments.runs import find_run
from lingshu_jax.training.metrics import DATA, SAVING, START, USEFUL
from tests.experiments.conftest import train_arguments


def entry(step: int, goodput: Goodput, time: float) -> dict:
    return {"step": step, **goodput.entry(), "time": time}


def test_goodput_is_the_useful_share_of_the_time():
    goodput = Goodput().started(4.0).plus({USEFUL: 12.0, DATA: 1.0}).plus({USEFUL: 3.0, SAVING: 0.0})
    assert (goodput.seconds, goodput.useful) == (20.0, 15.0)
    assert goodput.share == 0.75
    assert goodput.line() == "goodput 75% (lost: start 20%, data 5%)"


def test_a_restart_counts_what_it_lost_and_how_long_nothing_ran():
    saved = Goodput().plus({USEFUL: 10.0, START: 2.0})
    died = saved.plus({USEFUL: 5.0, DATA: 1.0})
    entries = [entry(10, saved, time=1000.0), entry(15, died, time=1006.0)]
    again = Goodput.resumed(entries, entries[:1], now=1036.0)
    assert again.useful == 10.0
    assert again.lost == {START: 2.0, DATA: 1.0, REPEATED: 5.0, STOPPED: 30.0}
    assert Goodput.resumed([], [], now=5.0) == Goodput()


def test_utilisation_is_flops_over_what_the_chips_could_do():
    chip = accelerator_of("TPU v5e")
    hardware = Hardware(devices=4, kind="TPU v5e", platform="tpu", chip=chip)
    flops = StepFlops(naive=4 * 197e12, executed=6 * 197e12, blocks=0.0)
    scale = Scale(steps=1, genes=1, flops=flops, hardware=hardware)
    assert scale.utilisation(2.0) == {"mfu": pytest.approx(0.5), "hfu": pytest.approx(0.75)}
    unknown = Scale(steps=1, genes=1, flops=flops, hardware=Hardware(devices=4, kind="cpu", platform="cpu"))
    assert unknown.utilisation(2.0) == {}


@pytest.mark.parametrize("wrong", ["5", "5:5", "7:3", "a:b", ":4", "-1:4"])
def test_profiles_are_ranges_of_steps(wrong, capsys):
    with pytest.raises(InputError, match="START:STOP"):
        ProfiledSteps.parse(wrong)
    assert run(["train", "demo", f"--profile={wrong}", "--store", "x"]) == 2


def test_a_run_tells_where_its_time_went_and_keeps_the_account_over_restarts(store, tmp_path, capsys):
    settings = "--run twice --training.log-every 2 --training.evaluate-every 4 --training.save-every 4".split()
    arguments = train_arguments(store, tmp_path, *settings, "--training.steps", "6", "--profile", "2:4")
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "step 1/6  compiled and running" in said and "step 6/6  goodput" in said
    folder = find_run("twice", tmp_path)
    assert f"profile in {folder.path / 'profile'}" in said and list(folder.path.glob("profile/**/*.xplane.pb"))
    steps = [line for line in folder.read_metrics() if "loss" in line]
    assert [line["step"] for line in steps] == [2, 4, 6]
    for line in steps:
        assert line["cells_per_second"] * line["step_seconds"] == pytest.approx(32)
        assert line["host_peak_bytes"] > 2**20 and 0 <= line["data_wait"] <= 1 and "mfu" not in line
        assert all(math.isfinite(line[f"{name}_norm"]) for name in ("gradient", "update", "parameter"))
    last = folder.read_metrics()[-1]
    assert set(last["lost_seconds"]) == {"start", "data", "evaluation", "saving"}
    assert last["goodput"] == pytest.approx(
        last["useful_seconds"] / (last["useful_seconds"] + sum(last["lost_seconds"].values())), abs=1e-3
    )
