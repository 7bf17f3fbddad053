import json

import anndata
import numpy as np
import pytest

from data_pipelines.errors import InputError, Interrupted
from data_pipelines.locks import held
from data_pipelines.progress import silent
from experiments.prior import NoPrior
from experiments.simulation.request import SampleRequest
from experiments.simulation.shards import Part, write_request


@pytest.fixture
def request_of(loaded, sampler, asked):
    def make(seed=0):
        return SampleRequest.make(loaded, asked, sampler, seed, "error", NoPrior(), None, silent)

    return make


class Killed(BaseException):
    pass


def killed_after(cells):
    def progress(stage, done, total):
        if done > cells:
            raise Killed

    return progress


def hidden(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))


def same(left, right):
    assert (left.X != right.X).nnz == 0
    assert left.obs_names.tolist() == right.obs_names.tolist() and left.obs.equals(right.obs)


def test_h5ad_zarr_and_memory_hold_the_same_cells(request_of, tmp_path):
    request = request_of()
    write_request(request, tmp_path / "cells.h5ad")
    write_request(request, tmp_path / "cells.zarr")
    file, folder = anndata.read_h5ad(tmp_path / "cells.h5ad"), anndata.read_zarr(tmp_path / "cells.zarr")
    memory = request.anndata(silent)
    assert file.X.dtype == np.int32 and file.shape == (1200, 60)
    same(file, folder)
    same(file, memory)
    assert (file.X[::-3] != memory.X[::-3]).nnz == 0  # scipy slices it in every way
    assert json.loads(folder.uns["lingshu"])["config_hash"] == json.loads(memory.uns["lingshu"])["config_hash"]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_a_job_that_was_cut_short_goes_on_to_the_same_cells(request_of, tmp_path, suffix):
    out = tmp_path / f"cells.{suffix}"
    with pytest.raises(Killed):
        write_request(request_of(), out, progress=killed_after(600))
    assert not out.exists() and len(hidden(tmp_path)) == 1
    told = []
    written = write_request(request_of(), out, begun=told.append)
    assert told == [512] and written.resumed == 512 and hidden(tmp_path) == []
    cells = anndata.read_h5ad(out) if suffix == "h5ad" else anndata.read_zarr(out)
    same(cells, request_of().anndata(silent))


def test_another_request_takes_nothing_from_one_that_was_cut_short(request_of, tmp_path):
    out = tmp_path / "cells.h5ad"
    with pytest.raises(Killed):
        write_request(request_of(), out, progress=killed_after(600))
    assert write_request(request_of(seed=1), out).resumed == 0
    same(anndata.read_h5ad(out), request_of(seed=1).anndata(silent))


def test_what_is_there_is_not_drawn_again(request_of, tmp_path):
    out = tmp_path / "cells.h5ad"
    assert not write_request(request_of(), out).was_there
    assert write_request(request_of(), out, progress=killed_after(-1)).was_there
    assert not write_request(request_of(seed=1), out).was_there


def test_processes_share_the_shards(request_of, tmp_path):
    out, request = tmp_path / "cells.h5ad", request_of()
    met = []

    def other(name):
        """The other process's turn, where the first one waits for it."""
        met.append(name)
        if name == "drawn":
            write_request(request, out, part=Part(1, 2))

    write_request(request, out, part=Part(0, 2, other))
    assert met[-1] == "assembled"
    same(anndata.read_h5ad(out), request.anndata(silent))


def test_a_job_that_fails_before_its_first_shard_leaves_nothing(request_of, tmp_path):
    def full(stage, done, total):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        write_request(request_of(), tmp_path / "cells.h5ad", progress=full)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_is_named(request_of, tmp_path):
    out = tmp_path / "cells.h5ad"
    with pytest.raises(Killed):
        write_request(request_of(), out, progress=killed_after(600))
    shard = next(tmp_path.glob(".cells*/000000.npz"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=r"000000\.npz cannot be read.*Remove it"):
        write_request(request_of(), out)
    assert not out.exists()
    shard.unlink()
    write_request(request_of(), out)
    same(anndata.read_h5ad(out), request_of().anndata(silent))


def test_two_writers_of_one_file_are_refused(request_of, tmp_path):
    out, request = tmp_path / "cells.h5ad", request_of()
    folder = tmp_path / f".cells.h5ad.{request.hash}"
    folder.mkdir()
    with held(folder / "lock-0", ""), pytest.raises(Interrupted, match="being written by another process"):
        write_request(request, out)
