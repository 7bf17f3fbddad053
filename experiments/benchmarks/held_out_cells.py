"""What the benchmarks of a trained run share: its options, its held-out cells and its training cells."""

import argparse
import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from data_pipelines import load_statistics
from experiments import load_run
from experiments.evaluation.likelihood import TrainingSide
from experiments.run_data import run_data
from experiments.train import known_rows


def run_options(description: str | None, *, cells: int) -> argparse.ArgumentParser:
    """RUN, --runs, --store, --cells and --seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run: a folder, an id, a name, or latest")
    parser.add_argument("--runs", default="runs", help="folder of run folders")
    parser.add_argument("--store", help="the run's store, where it has moved")
    parser.add_argument("--cells", type=int, default=cells, help="at most so many held-out cells")
    parser.add_argument("--seed", type=int, default=0)
    return parser


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutCells:
    """Test cells of a run's split, and what baselines are fitted on."""

    run: Any
    store: Any
    split: Any
    rows: np.ndarray
    """Stored rows of the test cells, sorted."""
    training: TrainingSide

    @classmethod
    def read(cls, options: argparse.Namespace) -> "HeldOutCells":
        """Open run, store and split; choose the cells."""
        run = load_run(options.run, runs=options.runs)
        store, split = run_data(run.folder, options.store)
        rows = known_rows(store, split.rows("test"), run.plan)
        rows = np.sort(np.random.default_rng(options.seed).permutation(rows)[: options.cells])
        training = TrainingSide.read(store, split, load_statistics(store, split), options.seed)
        return cls(run=run, store=store, split=split, rows=rows, training=training)

    def anndata(self, rows: np.ndarray) -> Any:
        """Stored cells as a user has them."""
        import anndata

        obs = self.store.obs.iloc[rows].copy()
        return anndata.AnnData(self.store.counts(rows), obs=obs, var=pd.DataFrame(index=list(self.store.panel.genes)))

    def labels(self, rows: np.ndarray, column: str) -> np.ndarray:
        """A column of obs as text (n,).

        Raises:
            SystemExit: there is no such column.
        """
        if column not in self.store.obs:
            raise SystemExit(f"the store has no obs column {column!r}; it has: {', '.join(self.store.obs)}.")
        return self.store.obs[column].iloc[rows].astype(str).to_numpy()
