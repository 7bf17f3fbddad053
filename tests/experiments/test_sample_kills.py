"""`lingshu sample` killed at odd moments, and shared by processes: the cells are those of an undisturbed job."""

import signal
import time

import anndata
import numpy as np
import pytest

from tests.experiments.processes import end, start, start_several

TABLE = "cell_line,target_gene,n_cells\nline_A,non-targeting,2300\nline_B,non-targeting,700\n"


@pytest.fixture
def command(runs, tmp_path):
    (tmp_path / "conditions.csv").write_text(TABLE)

    def to(out):
        given = ["--conditions", str(tmp_path / "conditions.csv"), "--sampler.cells-per-device", "16"]
        return ["sample", "tiny", "--runs", str(runs), *given, "--out", str(tmp_path / out)]

    return to


def shards(tmp_path, out):
    return [path for folder in tmp_path.glob(f".{out}.*") for path in folder.glob("[0-9]*.npz")]


def same(left, right):
    assert left.obs_names.tolist() == right.obs_names.tolist() and (left.X != right.X).nnz == 0


@pytest.mark.slow
def test_killed_at_random_and_given_again_it_draws_the_same_cells(command, tmp_path):
    [(status, _)] = end([start(command("whole.h5ad"), devices=1)])
    assert status == 0
    rng = np.random.default_rng(0)
    most = 0
    for _ in range(3):
        process = start(command("killed.h5ad"), devices=1)
        wanted = most + 1
        while len(shards(tmp_path, "killed.h5ad")) < wanted and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))  # somewhere in the shard after it
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "killed.h5ad").exists()
        most = len(shards(tmp_path, "killed.h5ad"))
    assert 3 <= most < 6
    [(status, said)] = end([start(command("killed.h5ad"), devices=1)])
    assert status == 0 and f"going on: {512 * most:,} of 3,000 cells are drawn already" in said
    same(anndata.read_h5ad(tmp_path / "killed.h5ad"), anndata.read_h5ad(tmp_path / "whole.h5ad"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_two_processes_share_a_job(command, tmp_path):
    ended = end(start_several(command("shared.zarr"), 2, devices=2))
    assert [status for status, _ in ended] == [0, 0], ended
    assert sum("3,000 cells x 60 genes" in said for _, said in ended) == 1
    [(status, _)] = end([start(command("whole.h5ad"), devices=1)])
    assert status == 0
    same(anndata.read_zarr(tmp_path / "shared.zarr"), anndata.read_h5ad(tmp_path / "whole.h5ad"))
