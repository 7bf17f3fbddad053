"""Time and memory of an evaluation of a screen, metrics of the field and all baselines included.

    python -m experiments.benchmarks.evaluation [--genes 18080] [--perturbations 50] [--cells 100] [--controls 1000]

A simulated screen of two contexts; all perturbations of the first are held out with most of its controls, and as many
new draws of them are evaluated. Twice: without and with the real tables that the first evaluation kept.
"""

import argparse
import os
import pathlib
import re
import tempfile
import time
import types
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines import simulate_screen
from data_pipelines.columns import Columns
from experiments.evaluation.cells import all_measured
from experiments.evaluation.challenge import Challenge
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.independent import token_histogram
from experiments.evaluation.negative_binomial import fit_group


class _Store:
    """A simulated screen with the attributes that evaluation reads."""

    def __init__(self, data: Any) -> None:
        self._counts = scipy.sparse.csr_matrix(data.X)
        self.obs, self.var, self.planted_truth = data.obs, data.var, None
        self.columns = Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",))
        self.n_cells, self.n_genes = data.shape
        self.panel = types.SimpleNamespace(genes=tuple(data.var_names))
        self.hash = "simulated"
        self.measured = np.ones((1, self.n_genes), bool)
        self.source = np.zeros(self.n_cells, np.int32)

    def counts(self, rows: np.ndarray) -> Any:
        return self._counts[rows]


def _sides(options: argparse.Namespace) -> dict[str, Any]:
    """Store, split, statistics and generated cells."""
    size = {"genes": options.genes, "perturbations": options.perturbations, "cells": options.cells}
    data = simulate_screen(seed=0, contexts=2, controls=options.controls, **size)
    drawn = simulate_screen(seed=0, contexts=2, controls=options.controls + 1, **size)
    store = _Store(data)
    first = (data.obs["cell_line"] == "line_A").to_numpy()
    control = (data.obs["target_gene"] == "non-targeting").to_numpy()
    kept = np.random.default_rng(0).random(len(first)) < 0.2
    test = first & ~(control & kept)
    split = types.SimpleNamespace(
        train=np.flatnonzero(~test), val=np.zeros(0, int), test=np.flatnonzero(test), name="", kind="", hash="split"
    )
    cells = all_measured(store.counts(split.train))
    fitted = fit_group(cells, np.asarray(cells.counts.mean(0)).ravel())
    statistics = types.SimpleNamespace(
        split_hash="split", histogram=token_histogram(cells), mean=fitted.mean, dispersion=fitted.dispersion,
        median_library=float(np.median(cells.libraries)),
    )  # fmt: skip
    generated = drawn[(drawn.obs["cell_line"] == "line_A").to_numpy()].copy()
    return {"store": store, "split": split, "statistics": statistics, "generated": generated}


def main() -> None:
    """Print a line per evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, default in (("genes", 18_080), ("perturbations", 50), ("cells", 100), ("controls", 1_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sides = _sides(options)
    held_out = len(sides["split"].test)
    print(f"{options.perturbations} perturbations, {options.genes} genes, {held_out} cells, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for title in ("first time", "real tables kept"):
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            begun, busy = time.perf_counter(), time.process_time()
            stages: dict[str, float] = {}

            def progress(stage: str, done: int, total: int, stages: dict[str, float] = stages) -> None:
                stages.setdefault(stage, time.perf_counter())

            evaluate(**sides, embedding=False, challenge=Challenge(cache=pathlib.Path(folder)), progress=progress)
            ended = time.perf_counter()
            parts = dict(zip(stages, np.diff([*stages.values(), ended]), strict=True))
            peak = re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())
            assert peak is not None
            print(
                f"{title}: {ended - begun:.0f} s, {time.process_time() - busy:.0f} s of cores, peak "
                f"{int(peak[1]) / 2**20:.1f} GB; " + ", ".join(f"{stage} {took:.0f} s" for stage, took in parts.items())
            )


if __name__ == "__main__":
    main()
