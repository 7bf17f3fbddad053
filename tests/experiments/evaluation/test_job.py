"""Cells that are judged for a run are that run's, or are refused before anything long begins."""

import json
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import CellStore
from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.evaluation.job import step_of
from experiments.runs import RunFolder


@pytest.fixture
def folder(runs, tmp_path) -> RunFolder:
    """A copy of the trained run without its weights, and what other tests did with it: a refusal needs none."""
    there = tmp_path / "perturb" / "tiny"
    shutil.copytree(
        runs / "perturb" / "tiny", there, ignore=shutil.ignore_patterns("checkpoints", "samples", "evaluations")
    )
    (there / "samples").mkdir()
    return RunFolder(there)


def cells(folder: RunFolder, path, value=1.0, **provenance):
    """Ten cells of one perturbation, told to be drawn by the run of `folder` at step 6."""
    genes = CellStore.open(folder.config()["store"]).panel.genes
    counts = scipy.sparse.csr_matrix(np.full((10, len(genes)), value))
    generated = anndata.AnnData(counts, var=pd.DataFrame(index=list(genes)))
    told = {name: folder.config()[name] for name in ("store_hash", "split_hash")} | {"run": folder.id, "step": 6}
    generated.uns["lingshu"] = provenance.get("text") or json.dumps(told | provenance)
    generated.write_h5ad(path)
    return path


@pytest.mark.parametrize(
    "told, said",
    [
        ({"split_hash": "0" * 16}, "drawn by a run on another split"),
        ({"store_hash": "0" * 16}, "drawn by a run on another store"),
        ({"run": "other"}, "lingshu evaluate other --samples"),
        ({"text": "{not json"}, "uns['lingshu'] of the generated cells is damaged"),
        ({"value": np.inf}, "no counts"),
        ({"value": 1e19}, "no counts"),
    ],
)
def test_cells_that_are_not_the_runs_are_refused(folder, tmp_path, capsys, told, said):
    file = cells(folder, tmp_path / "cells.h5ad", **told)
    assert run(["evaluate", "tiny", "--runs", str(tmp_path), "--samples", str(file)]) == 2
    assert said in capsys.readouterr().err and not folder.evaluations.exists()


def test_a_run_that_was_renamed_keeps_its_samples_and_their_step(folder, tmp_path):
    inside = cells(folder, folder.samples / "test-6-aaaaaa.h5ad", run="before")
    assert step_of(inside, folder, None) == 6
    with pytest.raises(InputError, match="drawn by run before"):
        step_of(cells(folder, tmp_path / "cells.h5ad", run="before"), folder, None)
