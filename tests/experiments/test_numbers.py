"""Numbers as conditions, from ingest to samples, bounds and fine-tuning."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from data_pipelines import simulate_screen
from data_pipelines.errors import InputError
from experiments import load_run
from experiments.__main__ import run
from lingshu_jax.diffusion import GeometricSchedule, SamplerConfig
from lingshu_jax.vocabulary import LIBRARY_SIZE
from tests.experiments.conftest import COLUMNS, train_arguments

SAMPLER = SamplerConfig(schedule=GeometricSchedule(steps=4), cells_per_device=16)
SHORT = "--training.log-every 20 --training.evaluate-every 100 --training.save-every 100".split()


@pytest.fixture(scope="module")
def cells():
    """720 cells of 60 genes; the libraries spread around 3,000 counts."""
    screen = simulate_screen(
        genes=60, contexts=2, perturbations=8, cells=30, controls=120, median_library=3_000, library_sd=0.6
    )
    screen.obs["dose"] = np.random.default_rng(0).choice([0.0, 1.0, 10.0], screen.n_obs)
    return screen


@pytest.fixture(scope="module")
def numbered(cells, tmp_path_factory):
    """A run with a dose and the library size, on 8 devices."""
    root = tmp_path_factory.mktemp("numbers")
    cells.write_h5ad(root / "cells.h5ad")
    store = root / "cells.store"
    assert run(["ingest", str(root / "cells.h5ad"), "--out", str(store), *COLUMNS, "--columns.numbers", "dose"]) == 0
    steps = ["--training.steps", "40", "--optimizer.warmup-steps", "10", *SHORT]
    assert run(train_arguments(store, root, "--run", "numbered", "--data.library-size", *steps)) == 0
    return root


@pytest.fixture(scope="module")
def loaded(numbered):
    return load_run("numbered", runs=numbered)


def asked(n=3, **columns):
    rows = max(map(len, columns.values()), default=1)
    table = {"cell_line": "line_A", "target_gene": "non-targeting", "n_cells": n, **columns}
    return pd.DataFrame(table, index=range(rows))


def totals(drawn):
    return np.asarray(drawn.X.sum(1)).ravel()


def test_cells_have_the_library_size_that_was_asked_for(loaded, cells):
    drawn = loaded.sample(asked(160, log_library_size=[7.0, 9.0, np.nan]), sampler=SAMPLER)
    small, large, left_out = (np.log(part) for part in totals(drawn).reshape(3, 160))
    assert abs(np.median(small) - 7) < 0.25 and abs(np.median(large) - 9) < 0.35
    assert small.std() < 0.3 and large.std() < 0.3
    of_line = (cells.obs["cell_line"] == "line_A").to_numpy() & (cells.obs["target_gene"] == "non-targeting").to_numpy()
    trained = np.log(totals(cells[of_line]))
    assert 0.65 < left_out.std() / trained.std() < 1.35 and abs(np.median(left_out) - np.median(trained)) < 0.3


def test_a_cell_is_the_same_however_its_number_is_written(loaded):
    one = loaded.sample(asked(log_library_size=["8"], dose=[1]), sampler=SAMPLER)
    again = loaded.sample(asked(log_library_size=[7.0, 8.0], dose=["1.0", "1"]), sampler=SAMPLER)
    assert (again.X[3:] != one.X).nnz == 0 and (again.X[:3] != one.X).nnz > 0
    other_dose = loaded.sample(asked(log_library_size=["8"]), sampler=SAMPLER)
    assert (one.X != other_dose.X).nnz > 0
    assert one.obs["dose"].tolist() == [1.0] * 3 and other_dose.obs["dose"].isna().all()
    assert json.loads(one.uns["lingshu"])["given"] == ["dose", LIBRARY_SIZE]
    assert json.loads(loaded.sample(asked(), sampler=SAMPLER).uns["lingshu"])["given"] == []


def test_what_is_no_number_is_refused_in_one_line(loaded, numbered, capsys):
    with pytest.raises(InputError, match="dose 'high' is no finite number"):
        loaded.sample(asked(dose=["high"]), sampler=SAMPLER)
    asked_for = ["--condition.cell_line", "line_A", "--condition.target_gene", "non-targeting", "--n", "2"]
    for value, said in (("20", "standard deviations from the training cells"), ("big", "is no finite number")):
        given = [*asked_for, f"--condition.{LIBRARY_SIZE}", value, "--out", str(numbered / "x.h5ad")]
        assert run(["sample", "numbered", "--runs", str(numbered), *given]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (numbered / "x.h5ad").exists()


@pytest.mark.slow
def test_commands_take_numbers_or_leave_them_out(numbered, cells, capsys):
    runs, out = ["--runs", str(numbered)], numbered / "drawn.h5ad"
    table = numbered / "conditions.csv"
    table.write_text("cell_line,target_gene,dose,n_cells\nline_A,non-targeting,,2\nline_A,non-targeting,10,3\n")
    quick = ["--sampler.schedule.steps", "2"]
    assert run(["sample", "numbered", *runs, "--conditions", str(table), "--out", str(out), *quick]) == 0
    drawn = anndata.read_h5ad(out).obs
    assert drawn["dose"].isna().sum() == 2 and (drawn["dose"] == 10).sum() == 3 and drawn[LIBRARY_SIZE].isna().all()
    split = ["--split", "test", "--n", "2", f"--condition.{LIBRARY_SIZE}", "7.5", "--out", str(numbered / "s.h5ad")]
    assert run(["sample", "numbered", *runs, *split, *quick]) == 0
    assert (anndata.read_h5ad(numbered / "s.h5ad").obs[LIBRARY_SIZE] == 7.5).all()
    labels = ["--split", "test", "--n", "2", "--condition.cell_line", "line_A"]
    assert run(["sample", "numbered", *runs, *labels]) == 2
    assert "Only numbers can be given beside --split" in capsys.readouterr().err


def test_bounds_given_the_library_size_say_so(numbered, loaded, cells, capsys):
    some = cells[::90].copy()
    some.obs[LIBRARY_SIZE] = 7.0  # never read: bounds are without it unless it is asked for
    some.write_h5ad(numbered / "some.h5ad")
    given = ["--cells", str(numbered / "some.h5ad"), "--draws", "2", "--out", str(numbered / "scores.csv")]
    assert run(["score", "numbered", "--runs", str(numbered), *given]) == 0
    assert "given library size" not in capsys.readouterr().out
    without = pd.read_csv(numbered / "scores.csv")
    assert run(["score", "numbered", "--runs", str(numbered), *given, f"--condition.{LIBRARY_SIZE}", "own"]) == 0
    assert "a gene, given library size" in capsys.readouterr().out
    scores = pd.read_csv(numbered / "scores.csv")
    assert "nats" in without and "nats" not in scores and "nats_per_gene_given_library_size" in scores
    assert (scores["nats_given_library_size"] != without["nats"]).all()
    by_line = loaded.score(some, by="cell_line", draws=2)
    assert {"p(line_A)", "label"} <= set(by_line)
    with pytest.raises(InputError, match="--by dose is a field of numbers"):
        loaded.score(some, by="dose", draws=2)


@pytest.mark.slow
def test_evaluation_leaves_the_library_size_out_or_compares_nothing(numbered, capsys):
    runs = ["--runs", str(numbered)]
    assert run(["sample", "numbered", *runs, "--split", "test", "--n", "12", "--sampler.schedule.steps", "2"]) == 0
    some = ["--draws", "2", "--bound-cells", "12"]
    assert run(["evaluate", "numbered", *runs, *some]) == 0
    said = capsys.readouterr().out
    assert "nats per cell: model minus nb_depth" in said and "given library size" not in said
    assert run(["evaluate", "numbered", *runs, *some, "--given-library-size"]) == 0
    said = capsys.readouterr().out
    assert "nats per cell, model, given library size:" in said and "model minus nb_depth" not in said


@pytest.mark.slow
def test_cells_of_a_file_are_completed_changed_and_embedded_under_numbers(loaded, cells):
    some = cells[:4].copy()
    completed = loaded.impute(some, share=0.5, conditions={LIBRARY_SIZE: "own"}, sampler=SAMPLER)
    np.testing.assert_allclose(completed.obs[LIBRARY_SIZE], np.log(totals(some)), atol=1e-5)
    assert completed.obs["dose"].tolist() == some.obs["dose"].tolist()
    label = loaded.plan.vocabulary.perturbation.labels[0]
    changed = loaded.counterfactual(some, label, keep_share=0.2, conditions={"dose": "10"}, sampler=SAMPLER)
    assert (changed.obs["dose"] == 10).all() and changed.obs[LIBRARY_SIZE].isna().all()
    del some.obs["dose"]
    states = [loaded.embed(some, conditions=told).obsm["X_lingshu"] for told in ({}, {"dose": "10"})]
    assert np.isfinite(states).all() and np.abs(states[0] - states[1]).max() > 0
    effects = loaded.predict_effect({"cell_line": "line_A", "dose": 10}, [label], n=8, sampler=SAMPLER)
    assert np.isfinite(effects.delta.to_numpy()).all()


@pytest.mark.slow
def test_a_fine_tuned_model_keeps_mean_and_scale_and_weights(numbered, loaded, cells):
    later = cells[200:].copy()
    later.obs["dose"] = later.obs["dose"] + 5
    later.write_h5ad(numbered / "later.h5ad")
    store = numbered / "later.store"
    ingest = ["ingest", str(numbered / "later.h5ad"), "--out", str(store), *COLUMNS, "--columns.numbers", "dose"]
    assert run(ingest) == 0
    child = ["train", "perturb", "--store", str(store), "--runs", str(numbered), "--init.from", "numbered"]
    steps = ["--training.steps", "1", "--training.batch-size", "32", "--data.library-size", "--run", "child", *SHORT]
    assert run([*child, *steps, "--training.evaluate-cells", "32", "--training.evaluate-draws", "1"]) == 0
    tuned = load_run("child", runs=numbered)
    for name in ("dose", LIBRARY_SIZE):
        assert tuned.plan.vocabulary.field(name) == loaded.plan.vocabulary.field(name)
        tables = [model.model.condition_tokens.tables[name][...] for model in (loaded, tuned)]
        np.testing.assert_allclose(*tables, atol=0.05)


def test_a_dry_run_counts_the_tokens_of_numbers(numbered, capsys):
    dry = ["--dry-run", "--topology", "v5e:2x2"]
    assert run(train_arguments(numbered / "cells.store", numbered, *dry, "--data.library-size")) == 0
    assert capsys.readouterr().out
    plain = train_arguments(numbered / "cells.store", numbered, *dry, "--data.no-numbers")
    assert run(plain) == 0
