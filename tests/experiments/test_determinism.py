"""The same seed gives the same model, bit by bit, and the same cells; another seed gives others."""

import hashlib

import anndata
import jax
import numpy as np
import pytest
from flax import nnx

from experiments import load_run
from experiments.__main__ import run
from tests.experiments.conftest import train_arguments

SHORT = "--training.steps 4 --training.log-every 2 --training.evaluate-every 4 --training.save-every 4".split()


def model_hash(runs, name: str) -> str:
    """Of every weight."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(load_run(name, runs=runs).model))):
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def cells(runs, name: str, out) -> anndata.AnnData:
    assert run(["sample", name, "--split", "test", "--n", "3", "--runs", str(runs), "--out", str(out)]) == 0
    return anndata.read_h5ad(out)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_the_same_cells(store, tmp_path, monkeypatch):
    monkeypatch.setenv("LINGSHU_REGISTRY", "none")
    for name, seed in (("one", "0"), ("two", "0"), ("other", "1")):
        assert run(train_arguments(store, tmp_path, "--run", name, *SHORT, "--seed", seed)) == 0
    assert model_hash(tmp_path, "one") == model_hash(tmp_path, "two") != model_hash(tmp_path, "other")
    one, two, other = (cells(tmp_path, name, tmp_path / f"{name}.h5ad") for name in ("one", "two", "other"))
    assert one.obs.equals(two.obs) and (one.X != two.X).nnz == 0
    assert (one.X != other.X).nnz > 0
