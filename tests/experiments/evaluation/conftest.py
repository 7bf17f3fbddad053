"""A small store in memory with the attributes evaluation reads, and a tiny planted screen in it."""

import dataclasses
import types
from typing import Any

import anndata
import numpy as np
import pandas
import pytest
import scipy.sparse

from data_pipelines.columns import Columns
from data_pipelines.simulate import simulate_screen
from experiments.evaluation.cells import all_measured
from experiments.evaluation.independent import token_histogram
from experiments.evaluation.negative_binomial import fit_group


class StoreInMemory:
    def __init__(self, data: anndata.AnnData, columns: Columns) -> None:
        self._counts = scipy.sparse.csr_matrix(data.X)
        self.obs, self.var, self.columns = data.obs, data.var, columns
        self.n_cells, self.n_genes = data.shape
        self.panel = types.SimpleNamespace(genes=tuple(data.var_names))
        self.hash = "store"
        self.measured = np.ones((1, self.n_genes), bool)
        self.source = np.zeros(self.n_cells, np.int32)
        self.planted_truth = data.uns.get("planted_truth")

    def counts(self, rows: np.ndarray) -> scipy.sparse.csr_matrix:
        return self._counts[rows]


@dataclasses.dataclass
class SplitInMemory:
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    name: str = "default"
    kind: str = "RandomCells"
    hash: str = "split"


def statistics_of(store: StoreInMemory, split: SplitInMemory) -> Any:
    cells = all_measured(store.counts(split.train))
    fitted = fit_group(cells, np.asarray(cells.counts.mean(0)).ravel())
    return types.SimpleNamespace(
        split_hash=split.hash,
        histogram=token_histogram(cells),
        mean=fitted.mean,
        dispersion=fitted.dispersion,
        median_library=float(np.median(cells.libraries)),
    )


@dataclasses.dataclass
class World:
    """A store, its split and statistics, and an oracle's cells: new draws of every condition."""

    store: StoreInMemory
    split: SplitInMemory
    statistics: Any
    oracle: anndata.AnnData


def screen_of(
    held_out: dict[str, int], *, cells: int = 40, generated: int = 100, controls: int = 160, **settings: Any
) -> World:
    """A simulated screen where `held_out[context]` perturbations are held out of a context, no one in two of them."""
    size = {"genes": 200, "contexts": 2, "perturbations": 12, "programs": 6, "median_library": 3000.0, "effect": 1.5}
    size |= settings
    data = simulate_screen(seed=0, cells=cells, controls=controls, **size)
    # The biology comes from the seed and the cells after it: more cells of one seed are new cells of the same screen.
    oracle = simulate_screen(seed=0, cells=generated, controls=100, **size)
    store = StoreInMemory(data, Columns(context=("cell_line",), perturbation="target_gene", control=("non-targeting",)))
    context, target = (data.obs[name].astype(str).to_numpy() for name in ("cell_line", "target_gene"))
    targets = iter(sorted(set(target) - {"non-targeting"}))
    chosen = {(where, next(targets)) for where, n in held_out.items() for _ in range(n)}
    test = np.array([pair in chosen for pair in zip(context, target, strict=True)])
    test |= (target == "non-targeting") & (np.random.default_rng(0).random(len(target)) < 0.4)
    split = SplitInMemory(np.flatnonzero(~test), np.flatnonzero(test)[:0], np.flatnonzero(test))
    pairs = zip(oracle.obs["cell_line"], oracle.obs["target_gene"], strict=True)
    asked = [pair in chosen or pair[1] == "non-targeting" for pair in pairs]
    return World(store, split, statistics_of(store, split), oracle[asked].copy())


@pytest.fixture(scope="session")
def screen() -> World:
    """Two contexts, twelve perturbations, six held out in each; 200 genes with strong effects."""
    return screen_of({"line_A": 6, "line_B": 6})


@pytest.fixture(scope="session")
def plain() -> World:
    """Cells without any condition: 25 genes of two programs, varying depth, one column of counts above 100."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.normal(0, 0.5, (160, 1)))
    rate = np.exp(rng.normal(0, 1, 25) + rng.normal(size=(160, 1)) * rng.normal(size=25) * 0.4)
    rate[:, 0] = 150
    counts = scipy.sparse.csr_matrix(rng.poisson(depth * rate).astype(np.int32))
    genes = pandas.DataFrame(index=[f"g{i}" for i in range(25)])
    data = anndata.AnnData(counts, var=genes)
    store = StoreInMemory(data, Columns())
    order = rng.permutation(160)
    split = SplitInMemory(np.sort(order[:100]), order[:0], np.sort(order[100:]))
    generated = data[order[:60]].copy()
    return World(store, split, statistics_of(store, split), generated)
