"""Ingest: cells per second from plain and from gzipped h5ad, beside reading X alone, and memory for a larger input.

    python -m experiments.benchmarks.ingest [--cells 20000] [--genes 18080] [--workers 2]

Rates are of the whole call: checking, alignment, global shuffle, compression, writing. Memory is the peak of a process
of its own that ingests with --memory-mb 256, for some cells and for ten times as many.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import anndata
import h5py
import scipy.sparse

from data_pipelines import Columns, ingest
from data_pipelines.ingestion.engine import Local
from experiments.benchmarks.simulated_cells import simulated_counts

_MEMORY = """
import pathlib, re, sys
from data_pipelines import Columns, ingest
ingest(sys.argv[1], sys.argv[2], columns=Columns(), memory_mb=256)
# Not getrusage: its peak is inherited from the process that forked this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def read_x(path: pathlib.Path) -> None:
    """Read every stored value and column of X, and nothing else."""
    with h5py.File(path, "r") as file:
        matrix = file["X"]
        assert isinstance(matrix, h5py.Group)
        for name in ("data", "indices"):
            stored = matrix[name]
            assert isinstance(stored, h5py.Dataset)
            for start in range(0, len(stored), 2**22):
                stored[start : start + 2**22]


def peak_mb(path: pathlib.Path, out: pathlib.Path) -> int:
    """Peak memory in MB of a process that ingests one file."""
    command = [sys.executable, "-c", _MEMORY, str(path), str(out)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=18_080)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as name:
        folder = pathlib.Path(name)
        counts = simulated_counts(options.cells, options.genes)
        per_cell = counts.nnz / options.cells
        print(f"{options.cells:,} cells x {options.genes:,} genes, {per_cell:,.0f} expressed genes per cell")
        for kind, target in (("plain", ">= 20,000 cells/s"), ("gzip", ">= 0.5 of reading")):
            file = folder / f"{kind}.h5ad"
            anndata.AnnData(counts).write_h5ad(file, compression="gzip" if kind == "gzip" else None)
            reading = timed(lambda file=file: read_x(file))
            engine = Local(options.workers)
            taken = timed(
                lambda file=file, kind=kind, engine=engine: ingest(
                    file, folder / kind, columns=Columns(), memory_mb=2048, engine=engine
                )
            )
            stored = sum(path.stat().st_size for path in (folder / kind).rglob("*") if path.is_file())
            print(
                f"{kind} h5ad: {options.cells / taken:,.0f} cells/s with {options.workers} workers; reading X alone "
                f"{options.cells / reading:,.0f} cells/s, ratio {reading / taken:.2f} (target {target}); "
                f"{stored / options.cells:,.0f} bytes/cell"
            )
        sizes = (options.cells // 5, options.cells * 2)
        for cells in sizes:
            twice: Any = scipy.sparse.vstack([counts, counts], format="csr")
            anndata.AnnData(twice[:cells]).write_h5ad(folder / f"{cells}.h5ad")
        small, large = (peak_mb(folder / f"{cells}.h5ad", folder / f"memory-{cells}") for cells in sizes)
        print(
            f"peak memory: {small:,} MB for {sizes[0]:,} cells, {large:,} MB for {sizes[1]:,}: "
            f"{large / small:.2f}x (target <= 1.3x)"
        )


if __name__ == "__main__":
    main()
