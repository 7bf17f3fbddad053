"""Several processes train one run: killed, stopped and started again, its losses stay the same."""

import random
import resource
import shutil
import signal
import time

import numpy as np
import pytest

from experiments.runs import RunFolder, locked
from tests.experiments.conftest import train_arguments
from tests.experiments.processes import end, free_port, start, start_several

STEPS = 20
SETTINGS = (
    f"--training.steps {STEPS} --training.log-every 1 --training.evaluate-every 100 --training.save-every 6 "
    "--training.batch-size 128 --model.dtype float32"
).split()
DEVICES = 4


def arguments(store, runs, name: str, *more: str) -> list[str]:
    return train_arguments(store, runs, "--run", name, *SETTINGS, *more)


def losses(runs, name: str) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in folder(runs, name).read_metrics() if "loss" in entry}


def folder(runs, name: str) -> RunFolder:
    return RunFolder(runs / "perturb" / name)


def finish(command, processes: int) -> str:
    """Run to the end; what process 0 said."""
    ended = end(start_several(command, processes, devices=DEVICES))
    assert [status for status, _ in ended] == [0] * processes, ended
    assert all("loss" not in said and "finished" not in said for _, said in ended[1:])
    return ended[0][1]


def wait_for_step(runs, name: str, step: int, processes) -> None:
    """Until the run has come so far."""
    while max(losses(runs, name), default=0) < step:
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.02)


def saved_steps(runs, name: str) -> list[int]:
    """Steps of the checkpoints that were written to the end."""
    return sorted(int(path.name) for path in folder(runs, name).checkpoints.glob("*") if path.name.isdigit())


def wait_for_checkpoint(runs, name: str, processes) -> None:
    """Until a checkpoint has its name: saves go on in the background."""
    while not saved_steps(runs, name):
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.02)


def same_losses(one: dict[int, float], other: dict[int, float]) -> None:
    assert sorted(one) == sorted(other) == list(range(1, len(one) + 1)) and len(one) >= STEPS
    np.testing.assert_allclose([one[n] for n in sorted(one)], [other[n] for n in sorted(other)], rtol=1e-5)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> dict[int, float]:
    """Losses of a run of two processes that nothing happened to."""
    runs = tmp_path_factory.mktemp("whole")
    finish(arguments(store, runs, "whole"), 2)
    return losses(runs, "whole")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 4])
def test_losses_do_not_depend_on_the_number_of_processes(store, tmp_path, whole, processes):
    finish(arguments(store, tmp_path, "run"), processes)
    same_losses(losses(tmp_path, "run"), whole)


def kill_one(runs, name, command, processes: int, victim: int, step: int) -> None:
    """SIGKILL one process at a step; the others must end by themselves, asking to be started again."""
    started = start_several(command, processes, devices=DEVICES)
    wait_for_step(runs, name, step, started)
    wait_for_checkpoint(runs, name, started)
    started[victim].kill()
    ended = end(started)
    for number, (status, said) in enumerate(ended):
        if number != victim:
            assert status == 75, ended
            lost = "process 0 (the coordinator" if victim == 0 else f"process {victim}: it ended"
            assert f"lingshu: process {number} lost {lost}" in said and "start all 2 processes again" in said
            assert "Traceback" not in said and "Check failure stack trace" not in said


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_goes_on_bit_for_bit(store, tmp_path, whole, victim):
    command = arguments(store, tmp_path, "run")
    kill_one(tmp_path, "run", command, 2, victim, step=9)
    assert f"resumes at step {saved_steps(tmp_path, 'run')[-1]}" in finish(command, 2)
    assert losses(tmp_path, "run") == whole


@pytest.mark.slow
def test_sigterm_to_one_process_stops_all_at_one_step_and_any_number_goes_on(store, tmp_path, whole):
    command = arguments(store, tmp_path, "run")
    started = start_several(command, 2, devices=DEVICES)
    wait_for_step(tmp_path, "run", 3, started)
    started[1].send_signal(signal.SIGTERM)
    (status, said), (other, _) = end(started)
    assert status == other == 75
    step = max(losses(tmp_path, "run"))
    assert f"stopped at step {step}, saved; the same command goes on from there" in said and step < STEPS
    shutil.copytree(folder(tmp_path, "run").path, folder(tmp_path, "copy").path)
    for name, processes in (("run", 1), ("copy", 4)):
        assert f"resumes at step {step}" in finish(arguments(store, tmp_path, name), processes)
        same_losses(losses(tmp_path, name), whole)


def test_a_process_that_does_not_come_is_named(store, tmp_path):
    missing = f"--distributed.coordinator localhost:{free_port()} --distributed.processes 2 --distributed.process 0"
    process = start(arguments(store, tmp_path, "run", *missing.split(), "--distributed.start-seconds", "1"))
    ((status, said),) = end([process])
    assert status == 75 and "process 1 of 2 has not arrived at localhost:" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_process_0_is_refused_ends_all(store, tmp_path):
    command = arguments(store, tmp_path, "run")
    folder(tmp_path, "run").path.mkdir(parents=True)
    with locked(folder(tmp_path, "run")):
        ended = end(start_several(command, 2, devices=2))
    assert [status for status, _ in ended] == [2, 2]
    for (_, said), begin in zip(ended, ("run", "process 0 says: run"), strict=True):
        assert f"lingshu train: {begin} {folder(tmp_path, 'run').path} is being trained by another process" in said
        assert "Traceback" not in said


@pytest.mark.soak
@pytest.mark.parametrize("processes", [2, 1, 4])
def test_ten_kills(store, tmp_path, processes):
    """SIGKILL of a random process of two, ten times in a row; then the rest by any number of processes."""
    draw, more = random.Random(processes), ("--training.steps", "120")
    finish(arguments(store, tmp_path, "whole", *more), 2)
    command = arguments(store, tmp_path, "run", *more)
    for kill in range(10):
        started = start_several(command, 2, devices=DEVICES)
        if kill % 3 == 0:  # on the way to the first step; others while it trains and saves
            time.sleep(draw.uniform(0, 12))
        else:
            wait_for_step(tmp_path, "run", max(losses(tmp_path, "run"), default=0) + draw.randrange(1, 10), started)
            time.sleep(draw.uniform(0, 0.3))
        assert all(process.poll() is None for process in started), end(started)
        draw.choice(started).kill()
        ended = end(started)
        statuses = sorted(status for status, _ in ended)
        assert statuses in ([-signal.SIGKILL, 75], [-signal.SIGKILL] * 2), ended
    finish(command, processes)
    if processes == 2:
        assert losses(tmp_path, "run") == losses(tmp_path, "whole")
    same_losses(losses(tmp_path, "run"), losses(tmp_path, "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("full", [0, 1])
def test_a_disk_that_is_full_for_one_process_ends_all_and_the_run_goes_on(store, tmp_path, whole, full):
    command = arguments(store, tmp_path, "run")
    started = start_several(command, 2, devices=DEVICES)
    wait_for_checkpoint(tmp_path, "run", started)
    resource.prlimit(started[full].pid, resource.RLIMIT_FSIZE, (4096, 4096))
    begin = time.monotonic()
    ended = end(started)
    kept = saved_steps(tmp_path, "run")[-1]
    assert [status for status, _ in ended] == [2, 2] and time.monotonic() - begin < 200, ended
    for number, (_, said) in enumerate(ended):
        (line,) = [line for line in said.splitlines() if line.startswith("lingshu train: stopped: the checkpoint of")]
        why = "(File too large)" if number == full else f"(process {full} says: File too large)"
        assert why in line and f"The checkpoint of step {kept} is kept. Make room" in line
        assert "Traceback" not in said, said
    assert f"resumes at step {kept}" in finish(command, 2)
    assert losses(tmp_path, "run") == whole


@pytest.mark.slow
def test_a_second_sigterm_ends_its_process_at_once_and_the_others_after_it(store, tmp_path, whole):
    """The first ones are one request; the next one, while all save, ends the process."""
    command = arguments(store, tmp_path, "run")
    started = start_several(command, 2, devices=DEVICES)
    wait_for_checkpoint(tmp_path, "run", started)
    while started[1].poll() is None:
        started[1].send_signal(signal.SIGTERM)
        time.sleep(0.05)
    (status, said), (victim, _) = end(started)
    assert (status, victim) == (75, -signal.SIGTERM) and "lost process 1: it ended" in said and "Traceback" not in said
    assert "resumes at step" in finish(command, 2)
    assert losses(tmp_path, "run") == whole
