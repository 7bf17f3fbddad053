"""A run whose folder is in an object store: the same commands, the same losses."""

import signal

import pytest

from experiments import load_run
from experiments.__main__ import run
from experiments.runs import find_run
from experiments.storage import folder_at
from tests.buckets import new_bucket, s3_server
from tests.experiments import test_pods as pods
from tests.experiments.conftest import train_arguments
from tests.experiments.processes import start
from tests.experiments.test_train import SHORT, losses, wait_for_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(XDG_CACHE_HOME=str(tmp_path_factory.mktemp("cache"))) as environment:
        yield environment


@pytest.fixture(scope="module")
def remote(server, store) -> str:
    """RUNS in a bucket, with a finished run called `tiny`."""
    root = f"{new_bucket(server)}/team/runs"
    assert run(train_arguments(store, root, "--run", "tiny", *SHORT)) == 0
    return root


def test_a_run_in_a_bucket_learns_what_a_local_one_does(remote, runs):
    folder = find_run("tiny", folder_at(remote))
    assert losses(folder) == losses(find_run("tiny", runs))
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"config.json", "environment.json", "metrics.jsonl", "checkpoints"}  # and no lock


def test_a_finished_run_in_a_bucket_says_so(remote, store, capsys):
    assert run(train_arguments(store, remote, "--run", "tiny", *SHORT)) == 0
    said = capsys.readouterr().out
    assert f"run {remote}/perturb/tiny is already finished at step 12" in said
    assert f"--runs {remote}" in said


def test_it_is_listed_loaded_sampled_evaluated_and_reported_there(remote, runs, capsys):
    assert run(["runs", "--runs", remote]) == 0
    assert "12/12" in capsys.readouterr().out
    here, there = load_run("tiny", runs=runs), load_run(f"{remote}/perturb/tiny")
    assert here.plan.to_json() == there.plan.to_json() and here.step == there.step
    assert run(["sample", "tiny", "--runs", remote, "--split", "test", "--n", "20"]) == 0
    assert run(["evaluate", "latest", "--runs", remote, "--draws", "2", "--bound-cells", "20"]) == 0
    assert run(["report", "tiny", "--runs", remote]) == 0
    folder = find_run("tiny", folder_at(remote))
    (samples,) = folder.samples.glob("*.h5ad")
    assert {path.name for path in (folder.evaluations / samples.stem).iterdir()} == {"metrics.json", "figures.npz"}
    assert "<html" in (folder.path / "report.html").read_text()
    assert run(["sample", "tiny", "--runs", remote, "--split", "test", "--n", "20"]) == 0
    assert f"{samples} holds these cells already" in capsys.readouterr().out


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_and_started_again_it_goes_on_as_if_nothing_had_happened(server, store, end):
    root = new_bucket(server)
    settings = "--training.steps 30 --training.log-every 1 --training.save-every 8".split()
    assert run(train_arguments(store, root, "--run", "whole", *settings)) == 0
    process = start(train_arguments(store, root, "--run", "ended", *settings), devices=8)
    wait_for_line(process, r"^step 18/30  loss")  # the save of step 16 began, so that of step 8 is whole
    process.send_signal(end)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == (75 if end == signal.SIGTERM else -signal.SIGKILL), said
    again = start(train_arguments(store, root, "--run", "ended", *settings), devices=8)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0 and "resumes at step" in said, said
    whole, ended = (losses(find_run(name, folder_at(root))) for name in ("whole", "ended"))
    assert ended == whole and sorted(ended) == list(range(1, 31))


def test_two_processes_share_a_run_in_a_bucket(server, store, tmp_path):
    root = folder_at(new_bucket(server))
    for runs in (tmp_path, root):
        pods.finish(pods.arguments(store, runs, "run"), 2)
    assert pods.losses(root, "run") == pods.losses(tmp_path, "run")
