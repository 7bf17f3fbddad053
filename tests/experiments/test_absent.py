"""One store from files with different genes: what a file did not measure is in no loss and in no sample of it.

Real files: LINGSHU_REAL_CELLS=FOLDER, with pbmc_sorted.h5ad, pbmc3k.h5ad and pbmc_ifnb_9k_genes.h5ad.
"""

import os
import pathlib

import anndata
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import CellStore
from experiments import load_run
from experiments.__main__ import run
from experiments.train import tokens_of
from lingshu_jax.diffusion import SamplerConfig, corrupt, masked_loss, sample
from lingshu_jax.diffusion.schedule import CosineSchedule
from lingshu_jax.tokens import ABSENT, VOCAB_SIZE

REAL = os.environ.get("LINGSHU_REAL_CELLS")
SMALL = (
    "--model.width 8 --model.heads 1 --model.ffn-width 16 --model.blocks 1 --model.factors.rank 2 "
    "--training.batch-size 32 --training.evaluate-cells 32 --training.evaluate-draws 1 --training.steps 4"
).split()


def _made_up(folder: pathlib.Path) -> list[pathlib.Path]:
    genes = [f"g{number}" for number in range(60)]
    files = []
    for number, measured in enumerate((range(40), range(20, 60), range(0, 60, 2))):
        counts = np.random.default_rng(number).poisson(1.0, (96, len(measured))).astype(np.int32)
        adata = anndata.AnnData(scipy.sparse.csr_matrix(counts), var=pd.DataFrame(index=[genes[g] for g in measured]))
        files.append(folder / f"{number}.h5ad")
        adata.write_h5ad(files[-1])
    return files


def _real(folder: pathlib.Path) -> list[pathlib.Path]:
    assert REAL is not None
    return [pathlib.Path(REAL) / f"{name}.h5ad" for name in ("pbmc_sorted", "pbmc3k", "pbmc_ifnb_9k_genes")]


@pytest.mark.parametrize(
    "files",
    [_made_up, pytest.param(_real, marks=pytest.mark.skipif(REAL is None, reason="LINGSHU_REAL_CELLS is not set"))],
)
def test_genes_that_a_file_lacks_are_in_no_loss_and_no_sample(files, tmp_path, capsys):
    inputs = [str(file) for file in files(tmp_path)]
    assert run(["ingest", *inputs, "--out", str(tmp_path / "s")]) == 0
    assert "panel genes not measured" in capsys.readouterr().out
    arguments = ["train", "cells", "--size", "tiny", "--store", str(tmp_path / "s"), "--runs", str(tmp_path / "runs")]
    assert run([*arguments, *SMALL]) == 0
    store, loaded = CellStore.open(tmp_path / "s"), load_run("latest", runs=tmp_path / "runs")
    for source in range(3):
        absent = ~store.measured[source]
        assert absent.any()
        rows = np.flatnonzero(store.source == source)[:8]
        tokens = tokens_of(store, rows).astype(np.int32)
        assert ((tokens == ABSENT) == absent).all()
        noised, masked = corrupt(tokens, np.full(8, 0.9, np.float32), jax.random.key(0))
        assert not np.asarray(masked)[:, absent].any()
        assert (np.asarray(noised)[:, absent] == ABSENT).all()
        logits = np.zeros((8, store.n_genes, VOCAB_SIZE), np.float32)
        wild = logits.copy()
        wild[:, absent] = np.nan  # whatever is said of absent genes, the loss does not hear it
        losses = [masked_loss(one, tokens, masked, np.full(8, 0.9, np.float32)) for one in (logits, wild)]
        np.testing.assert_array_equal(*losses)
        config = SamplerConfig(schedule=CosineSchedule(steps=2), cells_per_device=4)
        drawn = sample(loaded.model, 4, config, jax.random.key(1), absent=absent)
        assert ((drawn == ABSENT) == absent).all()
