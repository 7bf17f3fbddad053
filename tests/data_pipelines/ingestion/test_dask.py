"""A real scheduler and two workers on this machine: the same store, and mistakes come back in one line."""

import pathlib
import socket
import subprocess
import sys
import time

import anndata
import numpy as np
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, ingest
from data_pipelines.ingestion.engine import DaskCluster

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("dask")
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    port = address.rsplit(":", 1)[1]
    processes = [
        subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"], **quiet)
    ]
    for _ in range(2):
        command = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        processes.append(subprocess.Popen(command, **quiet))
    _wait_for_workers(address, 2)
    yield address
    for process in reversed(processes):
        process.terminate()
        process.wait(timeout=20)


def _wait_for_workers(address, count):
    from distributed import Client

    deadline = time.monotonic() + 60
    while True:
        try:
            with Client(address, timeout=5, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=60)
                return
        except (OSError, TimeoutError):
            if time.monotonic() > deadline:
                raise


def _cells(path, last=1.0):
    counts = scipy.sparse.random(3000, 200, 0.3, "csr", rng=np.random.default_rng(0))
    counts.data = np.ceil(counts.data * 9)
    counts.data[-1] = last
    anndata.AnnData(counts).write_h5ad(path)
    return path


def test_a_cluster_writes_the_same_store(cluster, tmp_path, monkeypatch):
    file = _cells(tmp_path / "a.h5ad")
    monkeypatch.setattr("data_pipelines.ingestion.writer.SHARD", 2**17)
    alone = ingest(file, tmp_path / "alone", columns=Columns())
    together = ingest(file, tmp_path / "together", columns=Columns(), memory_mb=4, engine=DaskCluster(cluster))
    roots = [pathlib.Path(store.path) for store in (alone, together)]
    files = [sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in roots]
    assert files[0] == files[1]
    for name in files[0]:
        assert (roots[0] / name).read_bytes() == (roots[1] / name).read_bytes(), name


def test_mistakes_come_back_from_the_workers(cluster, tmp_path):
    with pytest.raises(InputError, match=r"fractional values .* 0\.5 at cell 2999"):
        ingest(_cells(tmp_path / "a.h5ad", 0.5), tmp_path / "s", columns=Columns(), engine=DaskCluster(cluster))
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5ad"]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "x"])
def test_no_scheduler_is_said_in_one_line(address):
    code = f"from data_pipelines.ingestion.engine import DaskCluster\nwith DaskCluster({address!r}).open(): pass"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1].startswith("data_pipelines.errors.InputError: no Dask scheduler answers at ")
    assert "Exception ignored" not in ended.stderr  # of a client that waits for an answer while it goes away
