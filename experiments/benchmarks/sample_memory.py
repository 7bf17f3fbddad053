"""Memory of `lingshu sample`: the peak of a process that draws some cells, and of one that draws ten times as many.

    python -m experiments.benchmarks.sample_memory [--cells 2000] [--genes 18080] [--runs RUNS --run RUN | --noise]

Without --run a model of a few thousand parameters is trained for two steps on a simulated screen: memory is that of the
writer and of the sampler's rows, not of the network. With --noise nothing is sampled: the writer alone, with 2,000
random counts a cell.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines import simulate_screen
from data_pipelines.progress import Progress
from experiments.__main__ import run as lingshu
from experiments.simulation.request import Request
from experiments.simulation.shards import write_request

_SAMPLE = """
import pathlib, re, sys
from experiments.__main__ import run
status = run(sys.argv[1:])
# Not getrusage: its peak is inherited from the process that forked this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
sys.exit(status)
"""
_NOISE = """
import sys
from experiments.benchmarks.sample_memory import write_noise
write_noise(*sys.argv[1:])
"""
_TRAIN = (
    "--size tiny --run cheap --model.width 16 --model.heads 1 --model.ffn-width 32 --model.blocks 1 "
    "--model.factors.rank 4 --training.batch-size 32 --training.evaluate-cells 32 --training.evaluate-draws 1 "
    "--training.steps 2 --training.log-every 1 --training.evaluate-every 2 --training.save-every 2"
).split()
_COLUMNS = (
    "--columns.context cell_line --columns.perturbation target_gene --columns.control non-targeting "
    "--columns.batch gem_group"
).split()


def cheap_run(folder: pathlib.Path, genes: int) -> pathlib.Path:
    """Train a very small model over so many genes; returns the folder of runs, in which it is called `cheap`."""
    screen, store, runs = folder / "screen.h5ad", folder / "screen.store", folder / "runs"
    simulate_screen(genes=genes, contexts=2, perturbations=4, cells=60, controls=200).write_h5ad(screen)
    for command in (
        ["ingest", str(screen), "--out", str(store), *_COLUMNS],
        ["train", "perturb", "--store", str(store), "--runs", str(runs), *_TRAIN],
    ):
        if lingshu(command):
            raise SystemExit(f"lingshu {' '.join(command)} failed.")
    return runs


class NoiseRequest(Request):
    """Random counts in place of a model's."""

    def __init__(self, cells: int, genes: int) -> None:
        self.cells, self.genes = cells, genes

    n_cells = property(lambda self: self.cells)
    hash = property(lambda self: f"noise{self.cells}x{self.genes}")
    var = property(lambda self: pd.DataFrame(index=[f"g{i}" for i in range(self.genes)]))
    block = property(lambda self: 512)
    contents: ClassVar[list[Any]] = []
    provenance: ClassVar[dict[str, Any]] = {}
    description = property(lambda self: "noise")

    def obs(self, first: int, last: int) -> pd.DataFrame:
        """No labels."""
        return pd.DataFrame(index=[f"cell_{i}" for i in range(first, last)])

    def draw(self, first: int, last: int, progress: Progress) -> Any:
        """2,000 counts a cell, wherever they fall."""
        rng, n = np.random.default_rng(first), last - first
        places = (np.repeat(np.arange(n), 2000), rng.integers(0, self.genes, n * 2000))
        return scipy.sparse.csr_matrix((np.ones(n * 2000, np.int32), places), (n, self.genes))


def write_noise(cells: str, genes: str, out: str) -> None:
    """Write so many random cells, and print the peak memory of this process in MB."""
    write_request(NoiseRequest(int(cells), int(genes)), pathlib.Path(out))
    found = re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) // 1024)


def peak_mb(command: list[str]) -> tuple[int, float]:
    """Peak memory in MB, and seconds, of a process of its own, which prints the memory last."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", *command], check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1]), time.perf_counter() - begun


def main() -> None:
    """Print a line per number of cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--genes", type=int, default=18_080)
    parser.add_argument("--runs", type=pathlib.Path)
    parser.add_argument("--run")
    parser.add_argument("--condition", action="append", default=[], help="FIELD=VALUE")
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        conditions = options.condition or ["cell_line=line_A", "target_gene=non-targeting"]
        asked = [f"--condition.{condition}" for condition in conditions]
        few = [*asked, "--sampler.schedule.steps", "2"]
        runs = None if options.noise else options.runs or cheap_run(folder, options.genes)
        peaks = []
        for cells in (options.cells, 10 * options.cells):
            out = folder / f"{cells}.h5ad"
            sample = ["sample", options.run or "cheap", "--runs", str(runs), *few, "--n", str(cells), "--out", str(out)]
            noise = [_NOISE, str(cells), str(options.genes), str(out)]
            peak, seconds = peak_mb(noise if options.noise else [_SAMPLE, *sample])
            peaks.append(peak)
            size = out.stat().st_size / 2**20
            print(f"{cells:,} cells: peak {peak:,} MB, {seconds:.0f} s, file {size:,.0f} MB", flush=True)
        print(f"ten times the cells take {peaks[1] / peaks[0]:.2f} times the memory")


if __name__ == "__main__":
    main()
