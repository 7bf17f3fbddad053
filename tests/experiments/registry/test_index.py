"""Run folders in MLflow: everything once, whatever happens on the way."""

import contextlib
import json
import sqlite3

import pytest
from mlflow.tracking import MlflowClient

from experiments.__main__ import run
from experiments.registry.index import DIGEST, MlflowIndex
from experiments.registry.place import RegistryPlace
from experiments.registry.record import write
from experiments.registry.records import read_records
from experiments.runs import RunFolder
from tests.experiments.registry.folders import add_evaluation, copy_run, line, write_lines


@pytest.fixture
def client(root) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root}/registry.db")


def sync(folder: RunFolder, **how) -> None:
    place = RegistryPlace.of(folder.root)
    assert place is not None and write(folder, place, **how) == ""


def recorded(client: MlflowClient) -> dict:
    """MLflow's runs by name."""
    experiment = client.get_experiment_by_name("lingshu/perturb")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    names = [one.info.run_name for one in found]
    assert len(names) == len(set(names))
    return dict(zip(names, found, strict=True))


def history(client: MlflowClient, one, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, metric)]


def test_a_run_is_recorded_with_settings_hashes_environment_and_metrics_over_time(folder, client):
    sync(folder)
    one, config = recorded(client)["one"], folder.config()
    assert one.info.status == "FINISHED"
    assert one.data.params["training.steps"] == "12" and one.data.params["model.width"] == "16"
    told = one.data.tags
    assert (told["store_hash"], told["split_hash"]) == (config["store_hash"], config["split_hash"])
    assert told["kind"] == "train" and told["step"] == "12" and told["folder"] == str(folder.path)
    assert "environment.packages.jax" in told
    assert history(client, one, "loss") == [(6, 2.0), (12, 1.0)]
    assert history(client, one, "lost_seconds.start") == [(6, 2.0), (12, 2.0)]


def test_an_evaluation_is_a_child_that_names_checkpoint_sampler_and_versions(folder, client):
    add_evaluation(folder.path, "test-3-abc", "test", nats=900.0, pds=0.7)
    sync(folder)
    child, parent = recorded(client)["one evaluation test-3-abc"], recorded(client)["one"]
    told = child.data.tags
    assert told["mlflow.parentRunId"] == parent.info.run_id
    assert (told["kind"], told["step"], told["split_hash"], told["part"]) == ("evaluation", "3", "s", "test")
    assert told["version.numpy"] == "2" and told["folder"].endswith("evaluations/test-3-abc")
    assert child.data.params["sampler.temperature"] == "1.0" and child.data.params["sample.cells_per_condition"] == "4"
    assert child.data.metrics == {"nats": 900.0, "pds": 0.7}


def test_writing_again_changes_nothing_and_goes_on_where_it_was(folder, client, monkeypatch):
    add_evaluation(folder.path, "test-3", "test", nats=900.0)
    write_lines(folder.path, line(6, loss=2.0))
    sync(folder, running=True)
    before = recorded(client)
    assert before["one"].info.status == "RUNNING"
    sent = []
    monkeypatch.setattr(MlflowIndex, "_log_points", lambda self, run_id, points: sent.extend(points))
    sync(folder, running=True)
    assert not sent
    monkeypatch.undo()
    monkeypatch.delenv("LINGSHU_REGISTRY")
    write_lines(folder.path, line(6, loss=2.0), line(12, loss=1.0))
    sync(folder)
    after = recorded(client)
    assert {name: one.info.run_id for name, one in after.items()} == {k: v.info.run_id for k, v in before.items()}
    assert history(client, after["one"], "loss") == [(6, 2.0), (12, 1.0)]


def test_lines_that_a_restart_replaced_are_written_again(folder, client):
    sync(folder)
    write_lines(folder.path, line(6, loss=2.0), line(9, loss=1.5))
    sync(folder)
    one = recorded(client)["one"]
    assert one.info.status == "KILLED" and (9, 1.5) in history(client, one, "loss")
    assert history(client, one, "loss").count((6, 2.0)) == 1


def test_a_write_that_was_cut_short_is_completed(folder, client, monkeypatch):
    add_evaluation(folder.path, "test-3", "test", nats=900.0)
    place, calls = RegistryPlace.of(folder.root), []
    whole = MlflowIndex._log_points

    def cut(self, run_id, points):
        calls.append(run_id)
        if len(calls) == 2:
            raise ConnectionError("the server went away")
        whole(self, run_id, points)

    monkeypatch.setattr(MlflowIndex, "_log_points", cut)
    assert write(folder, place) == "the server went away"
    assert DIGEST not in recorded(client)["one evaluation test-3"].data.tags
    assert write(folder, place) == ""
    assert recorded(client)["one evaluation test-3"].data.metrics == {"nats": 900.0}
    assert set(recorded(client)) == {"one", "one evaluation test-3"}


def test_an_evaluation_done_again_or_removed_is_so_in_the_registry(folder, client):
    add_evaluation(folder.path, "test-3", "test", nats=900.0)
    sync(folder)
    add_evaluation(folder.path, "test-3", "test", nats=800.0)
    sync(folder)
    assert recorded(client)["one evaluation test-3"].data.metrics["nats"] == 800.0
    (folder.evaluations / "test-3" / "metrics.json").unlink()
    sync(folder)
    assert set(recorded(client)) == {"one"}


def test_samples_and_sweeps_are_children_too(folder, client):
    drawn = {"step": 12, "store_hash": "t", "split_hash": "s", "seed": 1, "sampler": {"type": "SamplerConfig"}}
    note = {"file": "/elsewhere/cells.h5ad", "cells": 8, "conditions": 2, "request": "r", "provenance": drawn}
    row = {"name": "cosine", "steps": 3, "scale": 0.0, "values": {"mmd": 0.2, "ilisi": None}}
    sweep = {"part": "val", "step": 12, "seed": 0, "split_hash": "s", "conditions": 2, "reference": [], "rows": [row]}
    for kind, tree in (("samples", note), ("sweeps", sweep)):
        (folder.path / kind).mkdir()
        (folder.path / kind / "val-12.json").write_text(json.dumps(tree))
    (folder.samples / "damaged.json").write_text("{")
    assert [job.key for job in read_records(folder).jobs] == ["samples/val-12", "sweeps/val-12"]
    sync(folder)
    found = client.search_runs([client.get_experiment_by_name("lingshu/perturb").experiment_id])
    kinds = {one.data.tags["kind"]: one for one in found}
    assert kinds["sample"].data.tags["file"] == "/elsewhere/cells.h5ad" and kinds["sample"].data.params["seed"] == "1"
    assert kinds["sweep"].data.metrics == {"mmd/cosine 3 w 0": 0.2}


def test_two_folders_of_equal_settings_are_two_runs(folder, runs, root, client):
    other = RunFolder(copy_run(runs, root / "other" / "perturb" / "one", uid="another"))
    place = RegistryPlace.of(root)
    assert write(folder, place) == write(other, place) == ""
    found = client.search_runs([client.get_experiment_by_name("lingshu/perturb").experiment_id])
    assert {one.data.tags["folder"] for one in found} == {str(folder.path), str(other.path)}


def test_what_two_machines_made_at_once_is_one_again(folder, client):
    sync(folder)
    first = recorded(client)["one"]
    client.create_run(first.info.experiment_id, tags=first.data.tags)
    sync(folder)
    assert set(recorded(client)) == {"one"}


def test_rebuild_makes_the_registry_of_the_run_folders(folder, runs, root, client, capsys):
    add_evaluation(folder.path, "test-3", "test", nats=900.0)
    sync(folder)
    gone = RunFolder(copy_run(runs, root / "perturb" / "gone"))
    sync(gone)
    (gone.path / "config.json").unlink()
    client.set_tag(recorded(client)["one"].info.run_id, "store_hash", "spoilt")
    damaged = copy_run(runs, root / "perturb" / "damaged")
    (damaged / "config.json").write_text("{")
    assert run(["runs", "--rebuild", "--runs", str(root)]) == 0
    said = capsys.readouterr()
    assert "registry.db: 1 runs and 1 of their jobs recorded" in said.out and "damaged is left out" in said.err
    assert set(recorded(client)) == {"one", "one evaluation test-3"}
    assert recorded(client)["one"].data.tags["store_hash"] == folder.config()["store_hash"]


def test_a_damaged_registry_stops_nothing_and_is_made_anew(folder, root, capsys):
    (root / "registry.db").write_bytes(b"no database" * 1000)
    assert run(["runs", "--runs", str(root)]) == 0
    assert run(["runs", "--rebuild", "--runs", str(root)]) == 0
    assert "registry.db.damaged" in capsys.readouterr().err
    with contextlib.closing(sqlite3.connect(root / "registry.db")) as file:
        assert file.execute("select name from runs").fetchall() == [("one",)]
