"""Killed and started again, with other numbers of workers, the store is the same to the byte."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import anndata
import numpy as np
import pytest
import scipy.sparse

from data_pipelines import CellStore, Columns, InputError, ingest
from data_pipelines.ingestion.engine import Local

PROGRAM = """
import sys
import data_pipelines.ingestion.writer as writer
writer.SHARD = 2 * writer.CHUNK
from data_pipelines import Columns, ingest
from data_pipelines.ingestion.engine import Local
if __name__ == "__main__":
    file, out, workers = sys.argv[1:]
    print("ready", flush=True)
    ingest(file, out, columns=Columns(), memory_mb=40, engine=Local(int(workers)))
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> pathlib.Path:
    """20,000 cells with 120 expressed genes: 19 shards of the size that the program writes."""
    rng = np.random.default_rng(0)
    genes = np.concatenate([np.sort(rng.choice(2000, 120, replace=False)) for _ in range(20_000)])
    counts = rng.integers(1, 50, genes.size).astype(np.int32)
    X = scipy.sparse.csr_matrix((counts, genes, np.arange(0, genes.size + 1, 120)), shape=(20_000, 2000))
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    anndata.AnnData(X).write_h5ad(path)
    return path


def _bytes(store: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


def _program(folder, cells, out, workers):
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(cells), str(out), str(workers)]
    # A session of its own, so that its workers are killed with it.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def _seconds(folder, cells, out) -> float:
    process = _program(folder, cells, out, 1)
    process.stdout.readline()
    start = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - start


def _killed(folder, cells, out, workers, after) -> bool:
    """Start it and kill it; False when it was done before."""
    process = _program(folder, cells, out, workers)
    process.stdout.readline()
    time.sleep(after)
    if process.poll() is not None:
        assert process.returncode == 0
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not out.exists():
        with pytest.raises(InputError, match=r"is not a cell store|does not exist"):
            CellStore.open(folder / f".{out.name}.partial" / "store")
    return True


def _kill_and_restart(folder, cells, kills, seed):
    """Kill until `kills` processes were killed, in as many stores as that takes; each store is gone on with to its end.

    A store's later kills come sooner after the start, since there is less left to do.
    """
    print("seed", seed)
    draws, whole = random.Random(seed), folder / "whole"
    longest = _seconds(folder, cells, whole)
    killed = stores = 0
    while killed < kills:
        assert stores < 3 * kills, "the ingest was nearly always done before it could be killed"
        out = folder / f"killed-{stores}"
        for again in range(3):
            after = draws.uniform(0.0, longest / (1 + again))
            if killed == kills or not _killed(folder, cells, out, draws.choice([1, 2, 3]), after):
                break
            killed += 1
        assert _program(folder, cells, out, 2).wait() == 0
        assert _bytes(out) == _bytes(whole)
        assert not (folder / f".{out.name}.partial").exists()
        shutil.rmtree(out)
        stores += 1


@pytest.mark.slow
def test_killed_twice_and_restarted_the_store_is_the_same(cells, tmp_path):
    _kill_and_restart(tmp_path, cells, kills=2, seed=time.time_ns())


@pytest.mark.soak
def test_killed_twenty_times_the_store_is_the_same(cells, tmp_path):
    _kill_and_restart(tmp_path, cells, kills=20, seed=time.time_ns())


def test_finished_chunks_and_shards_are_not_done_again(cells, tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.ingestion.writer.SHARD", 2**17)
    whole = ingest(cells, tmp_path / "whole", columns=Columns())

    def stop(stage, done, total):
        if stage == "writing" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(cells, tmp_path / "s", columns=Columns(), memory_mb=20, progress=stop)
    work = tmp_path / ".s.partial"
    done = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file() and "c/" in str(path)}
    runs = {path.name for path in (work / "runs").iterdir()}
    assert done and len(runs) > 1
    monkeypatch.setattr("data_pipelines.ingestion.runs._write_run", lambda *_: pytest.fail("a finished chunk was read"))
    seen = []

    def watch(stage, *_):
        if stage == "writing" and not seen:
            seen.extend(path for path, at in done.items() if path.stat().st_mtime_ns != at)
            seen.append(None)

    store = ingest(cells, tmp_path / "s", columns=Columns(), progress=watch)
    assert seen == [None]
    assert _bytes(pathlib.Path(store.path)) == _bytes(pathlib.Path(whole.path))


def test_a_changed_input_starts_from_the_beginning(cells, tmp_path):
    copy = tmp_path / "copy.h5ad"
    copy.write_bytes(cells.read_bytes())

    def stop(stage, done, total):
        if stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(copy, tmp_path / "s", columns=Columns(), progress=stop)
    changed = anndata.read_h5ad(cells)
    changed.X.data[:] = 7
    changed.write_h5ad(copy)
    store = ingest(copy, tmp_path / "s", columns=Columns())
    assert set(store.counts(np.arange(10)).data) == {7}


def test_two_at_a_time_are_refused(cells, tmp_path):
    def other(stage, done, total):
        if stage == "shuffling":
            with pytest.raises(InputError, match="another ingest is at work"):
                ingest(cells, tmp_path / "s", columns=Columns())

    assert ingest(cells, tmp_path / "s", columns=Columns(), progress=other).n_cells == 20_000


def test_processes_give_the_same_store_and_their_mistakes_come_back(cells, tmp_path):
    alone = ingest(cells, tmp_path / "alone", columns=Columns())
    together = ingest(cells, tmp_path / "together", columns=Columns(), memory_mb=40, engine=Local(2))
    assert _bytes(pathlib.Path(alone.path)) == _bytes(pathlib.Path(together.path))
    broken = anndata.read_h5ad(cells)
    broken.X = broken.X.astype(np.float32)
    broken.X.data[-1] = 0.5
    broken.write_h5ad(tmp_path / "broken.h5ad")
    with pytest.raises(InputError, match=r"fractional values .* at cell 19999"):
        ingest(tmp_path / "broken.h5ad", tmp_path / "b", columns=Columns(), memory_mb=40, engine=Local(2))
    assert not (tmp_path / ".b.partial").exists()
