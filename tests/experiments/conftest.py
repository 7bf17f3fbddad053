"""A tiny screen, its store, and a finished run of it, made once through the command line."""

import pathlib

import pytest

from data_pipelines import simulate_screen
from experiments.__main__ import run

TINY_MODEL = (
    "--model.width 16 --model.heads 1 --model.ffn-width 32 --model.blocks 1 --model.factors.rank 4 "
    "--training.batch-size 32 --training.evaluate-cells 32 --training.evaluate-draws 1"
).split()
COLUMNS = (
    "--columns.context cell_line --columns.perturbation target_gene --columns.control non-targeting "
    "--columns.batch gem_group"
).split()


def train_arguments(store: pathlib.Path, runs: pathlib.Path, *more: str) -> list[str]:
    return ["train", "perturb", "--size", "tiny", "--store", str(store), "--runs", str(runs), *TINY_MODEL, *more]


@pytest.fixture(scope="session")
def screen_file(tmp_path_factory) -> pathlib.Path:
    """2 contexts x (12 perturbations x 40 cells + 80 controls) on 60 genes."""
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    simulate_screen(genes=60, contexts=2, perturbations=12, cells=40, controls=80, median_library=300).write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def store(screen_file, tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("store") / "screen.store"
    assert run(["ingest", str(screen_file), "--out", str(path), *COLUMNS]) == 0
    return path


@pytest.fixture(scope="session")
def runs(store, tmp_path_factory) -> pathlib.Path:
    """Folder of runs with one finished run called `tiny`."""
    root = tmp_path_factory.mktemp("runs")
    short = "--training.steps 12 --training.log-every 4 --training.evaluate-every 6 --training.save-every 6".split()
    assert run(train_arguments(store, root, "--run", "tiny", *short)) == 0
    return root
