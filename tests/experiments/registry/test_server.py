"""A real MLflow server on this machine, and many jobs that write to it at once."""

import os
import subprocess
import sys
import urllib.request

import pytest
from mlflow.tracking import MlflowClient

from experiments.commands.registry import has_page
from experiments.registry.recorder import Recorder
from experiments.runs import RunFolder
from tests.experiments.processes import free_port
from tests.experiments.registry.folders import add_evaluation, copy_run, line, write_lines
from tests.experiments.registry.test_recorder import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_page(), reason="MLflow's server is in extra ui"),
]


@pytest.fixture
def server(root, monkeypatch, tmp_path):
    """Its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{root}/registry.db"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: _answers(url), seconds=240)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(f"{url}/health", timeout=2).status == 200
    except OSError:
        return False


def test_ten_evaluations_and_two_trainings_write_to_one_server_at_once(server, runs, root, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    names = ("one", "two")
    trained = {name: RunFolder(copy_run(runs, root / "perturb" / name)) for name in names}
    for folder in trained.values():
        write_lines(folder.path, *(line(step, loss=1.0 / step) for step in range(1, 13)))
    jobs = [Recorder(folder, training=True, patience=500).start() for folder in trained.values()]
    for number in range(10):
        folder = trained[names[number % 2]]
        jobs.append(Recorder(folder, patience=500).start())
        add_evaluation(folder.path, f"test-12-{number}", "test", nats=900.0 + number)
    for job in jobs:
        job.__exit__()
    assert "warning" not in capfd.readouterr().err
    client = MlflowClient(tracking_uri=server)
    found = client.search_runs([client.get_experiment_by_name("lingshu/perturb").experiment_id], max_results=100)
    by_name = {one.info.run_name: one for one in found}
    assert len(found) == len(by_name) == 12
    for number in range(10):
        name = names[number % 2]
        child = by_name[f"{name} evaluation test-12-{number}"]
        assert child.data.tags["mlflow.parentRunId"] == by_name[name].info.run_id
        assert child.data.metrics == {"nats": 900.0 + number}
    for name in names:
        history = client.get_metric_history(by_name[name].info.run_id, "loss")
        assert [point.step for point in history] == list(range(1, 13)) and by_name[name].info.status == "FINISHED"
