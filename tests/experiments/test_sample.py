import json

import anndata
import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from experiments import load_run
from experiments.__main__ import run
from experiments.runs import find_run
from experiments.simulation.conditions import check_conditions
from lingshu_jax.diffusion import GeometricSchedule, SamplerConfig
from lingshu_jax.vocabulary import ConditionVocabulary

SAMPLER = SamplerConfig(schedule=GeometricSchedule(steps=3), cells_per_device=8)


@pytest.fixture(scope="module")
def loaded(runs):
    return load_run("tiny", runs=runs)


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell_line", "target_gene", "n_cells"])


def target(loaded, i=0) -> str:
    return loaded.plan.vocabulary.perturbation.labels[i]


def test_cells_are_integer_counts_with_labels_and_provenance(loaded):
    cells = loaded.sample(table(("line_A", target(loaded), 5), ("line_B", "non-targeting", 3)), sampler=SAMPLER)
    assert cells.X.dtype == np.int32 and cells.X.min() >= 0 and cells.X.sum() > 0
    assert cells.obs["cell_line"].tolist() == ["line_A"] * 5 + ["line_B"] * 3
    assert list(cells.var_names) == list(loaded.plan.panel.genes) and cells.obs_names.is_unique
    provenance = json.loads(cells.uns["lingshu"])
    assert provenance["step"] == 12 and provenance["store_hash"] == loaded.plan.store_hash


def test_a_condition_gives_the_same_cells_in_any_company(loaded):
    one = loaded.sample(table(("line_B", target(loaded), 9)), sampler=SAMPLER)
    both = loaded.sample(table(("line_A", "non-targeting", 4), ("line_B", target(loaded), 20)), sampler=SAMPLER)
    np.testing.assert_array_equal(one.X.toarray(), both.X[4:13].toarray())
    other = loaded.sample(table(("line_B", target(loaded), 9)), sampler=SAMPLER, seed=1)
    assert (one.X != other.X).nnz > 0


def test_two_perturbations_make_a_set(loaded):
    pair = f"{target(loaded)}+{target(loaded, 1)}"
    cells = loaded.sample(table(("line_A", pair, 2), ("line_A", target(loaded), 2)), sampler=SAMPLER)
    assert cells.obs["target_gene"].tolist()[:2] == [pair, pair]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(("line_A", "NOPE9", 3)), "'NOPE9' is not in the training vocabulary.*--unseen null"),
        (table(("line_Z", "non-targeting", 3)), "cell_line 'line_Z'.*nearest: line_"),
        (table(("line_A", "non-targeting", 0)), r"whole number in 1\.\."),
        (table(("line_A", "non-targeting", "many")), "'many'"),
        (table(("line_A", "non-targeting", 1), ("line_A", "non-targeting", 2)), "listed twice"),
        (pd.DataFrame({"cell_line": ["line_A"], "n_cells": [1]}), "lack target_gene"),
        (table(("line_A", "non-targeting", 1)).assign(dose=1), "no condition field 'dose'"),
    ],
)
def test_impossible_requests_are_refused(loaded, rows, message):
    with pytest.raises(InputError, match=message):
        loaded.sample(rows, sampler=SAMPLER)


def test_an_unseen_perturbation_may_be_drawn_as_null_but_not_an_unseen_context(loaded):
    cells = loaded.sample(table(("line_A", "NOPE9", 2)), sampler=SAMPLER, unseen="null")
    assert cells.n_obs == 2
    with pytest.raises(InputError, match="'line_Z' is not in the training vocabulary"):
        loaded.sample(table(("line_Z", "non-targeting", 2)), sampler=SAMPLER, unseen="null")


def test_one_condition_from_the_command_line(runs, loaded, tmp_path, capsys):
    out = tmp_path / "cells.h5ad"
    arguments = ["--condition.cell_line", "line_A", "--condition.target_gene", target(loaded), "--n", "4"]
    assert run(["sample", "tiny", "--runs", str(runs), "--out", str(out), *arguments]) == 0
    assert anndata.read_h5ad(out).n_obs == 4
    csv = tmp_path / "conditions.csv"
    table(("line_A", target(loaded), 4)).to_csv(csv, index=False)
    again = tmp_path / "again.h5ad"
    assert run(["sample", "tiny", "--runs", str(runs), "--out", str(again), "--conditions", str(csv)]) == 0
    assert (anndata.read_h5ad(out).X != anndata.read_h5ad(again).X).nnz == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "how many cells"),
        (["--split", "test", "--condition.cell_line", "line_A"], "not by several"),
        (["--n", "none", "--condition.cell_line", "line_A"], "number >= 1"),
        (["--conditions", "nowhere.csv"], "does not exist"),
        (["--split", "test", "--step", "7"], "complete ones: 6, 12"),
        (["--split", "test", "--store", "nowhere"], "--store STORE"),
    ],
)
def test_unclear_requests_are_refused(runs, arguments, message, capsys):
    assert run(["sample", "tiny", "--runs", str(runs), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_prior_tells_genes_that_stay_and_says_how_many(runs, loaded, tmp_path, capsys):
    gene, place = loaded.plan.panel.genes[7], 7
    prior, out = tmp_path / "prior.csv", tmp_path / "cells.h5ad"
    prior.write_text(f"gene,value,cell_line\n{gene},1003,line_A\n")
    conditions = tmp_path / "conditions.csv"
    table(("line_A", target(loaded), 5), ("line_B", target(loaded), 5)).to_csv(conditions, index=False)
    asked = ["--conditions", str(conditions), "--prior", str(prior), "--out", str(out)]
    assert run(["sample", "tiny", "--runs", str(runs), *asked]) == 0
    assert "0 to 1 genes injected per condition (2 conditions)" in capsys.readouterr().out
    cells = anndata.read_h5ad(out)
    assert (cells.X[:5, place].toarray() == 1003).all() and (cells.X[5:, place].toarray() != 1003).any()
    stored = json.loads(cells.uns["lingshu"])
    told, injected = stored["prior"], stored["injected"]
    assert injected["genes"] == [gene]
    assert {entry["labels"]["cell_line"]: entry["genes"] for entry in injected["conditions"]} == {
        "line_A": [0],
        "line_B": [],
    }
    assert told["kind"] == "TablePrior" and told["genes"] == [1, 0]


def test_a_prior_from_training_cells_reads_the_runs_store(runs, loaded, tmp_path, capsys):
    one = ["--condition.cell_line", "line_A", "--condition.target_gene", target(loaded), "--n", "3"]
    asked = [*one, "--prior", "paper", "--out", str(tmp_path / "cells.h5ad")]
    assert run(["sample", "tiny", "--runs", str(runs), *asked]) == 0
    assert "genes injected per condition (1 conditions)" in capsys.readouterr().out
    cells = loaded.sample(table(("line_A", target(loaded), 3)), prior="paper")
    assert (anndata.read_h5ad(tmp_path / "cells.h5ad").X != cells.X).nnz == 0
    assert run(["sample", "tiny", "--runs", str(runs), *one, "--prior", "papr"]) == 2
    assert "neither none, expressed or paper nor a file" in capsys.readouterr().err


def test_from_samples_to_a_report(runs, capsys):
    """The rest of the path, by the commands that each one prints."""
    import shlex

    assert run(["sample", "tiny", "--split", "test", "--n", "30", "--runs", str(runs)]) == 0
    for wanted in ("evaluate", "report"):
        command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: lingshu "))
        assert command[0] == wanted and run(command) == 0
    page = find_run("tiny", runs).path / "report.html"
    assert "perturbation_transfer" in page.read_text()


def test_a_model_without_conditions_takes_one_row():
    nothing = ConditionVocabulary(())
    assert list(check_conditions(pd.DataFrame({"n_cells": [3]}), nothing)["n_cells"]) == [3]
    with pytest.raises(InputError, match="listed twice"):
        check_conditions(pd.DataFrame({"n_cells": [3, 4]}), nothing)
