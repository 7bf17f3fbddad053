"""`lingshu sample` killed at odd moments, and shared by processes: the cells are those of an undisturbed job."""

import dataclasses
import signal
import time

import anndata
import numpy as np
import pandas as pd
import pytest

from experiments import load_run
from tests.experiments.processes import end, start, start_several

TABLE = pd.DataFrame({"cell_line": ["line_A", "line_B"], "target_gene": ["non-targeting"] * 2, "n_cells": [1200, 600]})
"""Four shards of 512 cells, the last one short."""


@pytest.fixture(scope="module")
def undisturbed(runs):
    """Drawn in this process, on 8 devices."""
    run = load_run("tiny", runs=runs)
    sampler = dataclasses.replace(run.plan.experiment.sampler, cells_per_device=16)
    return run.sample(TABLE, sampler=sampler)


@pytest.fixture
def command(runs, tmp_path):
    TABLE.to_csv(tmp_path / "conditions.csv", index=False)

    def to(out):
        given = ["--conditions", str(tmp_path / "conditions.csv"), "--sampler.cells-per-device", "16"]
        return ["sample", "tiny", "--runs", str(runs), *given, "--out", str(tmp_path / out)]

    return to


def shards(tmp_path, out):
    return [path for folder in tmp_path.glob(f".{out}.*") for path in folder.glob("[0-9]*.npz")]


def same(left, right):
    assert left.obs_names.tolist() == right.obs_names.tolist() and (left.X != right.X).nnz == 0


@pytest.mark.slow
def test_killed_at_random_and_given_again_it_draws_the_same_cells(command, undisturbed, tmp_path):
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(2):
        process = start(command("killed.h5ad"), devices=1)
        wanted = most + 1
        while len(shards(tmp_path, "killed.h5ad")) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))  # somewhere in the shard after it
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "killed.h5ad").exists()
        most = len(shards(tmp_path, "killed.h5ad"))
    assert 2 <= most < 4
    [(status, said)] = end([start(command("killed.h5ad"), devices=1)])
    assert status == 0 and f"going on: {512 * most:,} of 1,800 cells are drawn already" in said
    same(anndata.read_h5ad(tmp_path / "killed.h5ad"), undisturbed)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_two_processes_share_a_job(command, undisturbed, tmp_path):
    ended = end(start_several(command("shared.zarr"), 2, devices=2))
    assert [status for status, _ in ended] == [0, 0], ended
    assert sum("1,800 cells x 60 genes" in said for _, said in ended) == 1
    same(anndata.read_zarr(tmp_path / "shared.zarr"), undisturbed)
