"""Load: many jobs at one registry server, long lists of runs, stores of many shards, tables of many conditions.

    python -m experiments.benchmarks.load [--only list store conditions registry]

Promised: 1,000 runs list in under 2 seconds, a store of 1,000 shards opens in under 5, 1,000 conditions are drawn in
one job, and 10 evaluation jobs and 2 training jobs that write to one server at once are all recorded.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

MANY = 1_000
_JOB = """
import json, pathlib, sys
from experiments.registry.recorder import Recorder
from experiments.runs import RunFolder
run, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with Recorder(RunFolder(run), training=not name, patience=600) as recorder:
    recorder.start()
    if name:
        (run / "samples").mkdir(exist_ok=True)
        (run / "samples" / f"{name}.json").write_text(sys.argv[3])
"""


def run_folder(path: pathlib.Path) -> pathlib.Path:
    """A finished run of 100 steps, as far as lists and the registry read it."""
    path.mkdir(parents=True)
    experiment = {"training": {"steps": 100}}
    known = {name: name for name in ("identity", "store", "store_hash", "split", "split_hash")}
    (path / "config.json").write_text(json.dumps({"experiment": experiment, "uid": path.name, **known}))
    lines = [{"step": step, "loss": 1.0 / step, "val_nats": 9.0, "time": 1.7e9 + step} for step in range(1, 101)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def list_runs(folder: pathlib.Path) -> str:
    """`lingshu runs` of many run folders."""
    for number in range(MANY):
        run_folder(folder / "runs" / "perturb" / f"run{number:04d}")
    seconds, said = _command(["runs", "--runs", str(folder / "runs")], LINGSHU_REGISTRY="none")
    assert said.count("run0") == MANY or said.count("\n") >= MANY, said[-500:]
    return f"{MANY:,} runs listed in {seconds:.1f} s, the start of the command included"


def open_store(folder: pathlib.Path) -> str:
    """A store whose counts lie in many shards."""
    import anndata
    import scipy.sparse

    from data_pipelines import CellStore, Columns, ingest
    from data_pipelines.ingestion import writer

    cells, expressed = 4 * MANY, 16
    writer.CHUNK, writer.SHARD = expressed, 4 * expressed
    writer.lay_out = functools.partial(writer.lay_out, chunk=expressed)
    counts: Any = scipy.sparse.random_array((cells, 100), density=0.16, rng=np.random.default_rng(0), format="csr")
    counts.data = np.ceil(5 * counts.data)
    anndata.AnnData(counts.astype(np.int32)).write_h5ad(folder / "cells.h5ad")
    ingest(folder / "cells.h5ad", folder / "cells.store", columns=Columns())
    shards = len(list((folder / "cells.store" / "X" / "data" / "c").iterdir()))
    begin = time.perf_counter()
    store = CellStore.open(folder / "cells.store")
    opened = time.perf_counter() - begin
    store.counts(np.arange(0, cells, 7))
    return f"a store of {shards:,} shards opens in {opened:.2f} s; with cells of all of them: " + (
        f"{time.perf_counter() - begin:.2f} s"
    )


def draw_conditions(folder: pathlib.Path) -> str:
    """One sampling job of many conditions, one cell of each."""
    from experiments.chaos.suite import make_base

    base = make_base(folder / "base")
    import pandas as pd

    from data_pipelines import CellStore

    obs = CellStore.open(base.store).obs[["cell_line", "target_gene"]].drop_duplicates()
    # As many conditions as rows: they are drawn one by one, whether a label stands in another row as well or not.
    table = pd.concat([obs] * (MANY // len(obs) + 1)).head(MANY).assign(n_cells=1)
    table.to_csv(folder / "conditions.csv", index=False)
    out = folder / "cells.h5ad"
    command = ["sample", "run", "--runs", str(base.runs), "--conditions", str(folder / "conditions.csv")]
    seconds, said = _command([*command, "--out", str(out)], LINGSHU_REGISTRY="none")
    return f"{MANY:,} conditions drawn in one job in {seconds:.0f} s ({said.strip().splitlines()[-1]})"


def register(folder: pathlib.Path) -> str:
    """Twelve jobs that write to one server at once."""
    from mlflow.tracking import MlflowClient

    runs = [run_folder(folder / "runs" / "perturb" / name) for name in ("one", "two")]
    with _server(folder) as url:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": url, "LINGSHU_REGISTRY": ""}
        begin = time.perf_counter()
        drawn = {"step": 100, "store_hash": "s", "split_hash": "t", "sampler": {"steps": 3}}
        note = json.dumps({"provenance": drawn, "file": "f", "cells": 1, "conditions": 1, "request": "r"})
        asked = [(run, "") for run in runs] + [(runs[number % 2], f"test-100-{number}") for number in range(10)]
        job = [sys.executable, "-c", _JOB]
        jobs = [
            subprocess.Popen([*job, str(run), name, note], env=environment, stderr=subprocess.PIPE)
            for run, name in asked
        ]
        warned = sum(b"warning" in job.communicate()[1] for job in jobs)
        seconds = time.perf_counter() - begin
        client = MlflowClient(tracking_uri=url)
        experiment = client.get_experiment_by_name("lingshu/perturb")
        found = [] if experiment is None else client.search_runs([experiment.experiment_id], max_results=100)
    names = {one.info.run_name for one in found}
    return f"{len(names)} of {len(jobs)} jobs at one server recorded, {warned} told that it was not; {seconds:.0f} s"


@contextlib.contextmanager
def _server(folder: pathlib.Path) -> Iterator[str]:
    from experiments.chaos.jobs import free_port

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/registry.db"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        limit = time.monotonic() + 240
        while not _answers(url):
            assert time.monotonic() < limit, (folder / "server.log").read_text()[-500:]
            time.sleep(0.2)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(f"{url}/health", timeout=2).status == 200
    except OSError:
        return False


def _command(arguments: Sequence[str], **environment: str) -> tuple[float, str]:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - begin, done.stdout


LOADS: dict[str, Callable[[pathlib.Path], str]] = {
    "list": list_runs,
    "store": open_store,
    "conditions": draw_conditions,
    "registry": register,
}


def main() -> None:
    """Print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=LOADS, default=list(LOADS))
    for name in parser.parse_args().only:
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            print(LOADS[name](pathlib.Path(folder)), flush=True)


if __name__ == "__main__":
    main()
