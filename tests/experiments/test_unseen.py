"""Perturbations without training cells, through the features of their targets."""

import dataclasses
import json

import anndata
import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from data_pipelines import CellStore, load_split, simulate_screen
from data_pipelines.errors import InputError
from experiments import load_run
from experiments.__main__ import run
from experiments.simulation.conditions import vocabulary_rows
from experiments.simulation.unseen import UnseenEffects, unseen_effects
from lingshu_jax.diffusion import GeometricSchedule, SamplerConfig
from lingshu_jax.kernels.gene_head import token_counts
from lingshu_jax.tokens import MASK
from tests.experiments.conftest import COLUMNS, train_arguments

SAMPLER = SamplerConfig(schedule=GeometricSchedule(steps=3), cells_per_device=8)
SHORT = "--training.steps 6 --training.log-every 3 --training.evaluate-every 6 --training.save-every 6".split()


@pytest.fixture(scope="module")
def told(store, tmp_path_factory):
    """A run that was told target features, on a split that holds perturbations out."""
    root = tmp_path_factory.mktemp("runs")
    assert run(["split", str(store), "--kind", "perturbations", "--name", "targets", "--test", "0.3"]) == 0
    features = ["--data.split", "targets", "--model.features", "target", "--model.features.size", "5"]
    assert run(train_arguments(store, root, "--run", "told", *SHORT, *features)) == 0
    return load_run("told", runs=root)


def held_out(store):
    cells = CellStore.open(store)
    split = load_split(cells, "targets")
    labels = set(cells.obs["target_gene"].iloc[split.test].astype(str)) - {"non-targeting"}
    return sorted(labels - set(cells.obs["target_gene"].iloc[split.train].astype(str)))


def asked(*targets, n=3):
    return pd.DataFrame({"cell_line": "line_A", "target_gene": targets, "n_cells": n})


def test_a_held_out_target_is_drawn_by_its_features_and_only_when_asked(told, store):
    a, b = held_out(store)[:2]
    with pytest.raises(InputError, match="Pass --unseen features to use its target features, or --unseen null"):
        told.sample(asked(a), sampler=SAMPLER)
    drawn = told.sample(asked(a, b), sampler=SAMPLER, unseen="features")
    assert drawn.n_obs == 6 and drawn.X.data.dtype == np.int32
    again = told.sample(asked(a), sampler=SAMPLER, unseen="features")
    assert (again.X != drawn[:3].X).nnz == 0
    seen = told.plan.vocabulary.perturbation.labels[0]
    both = told.sample(asked(f"{a}+{seen}"), sampler=SAMPLER, unseen="features")
    assert both.n_obs == 3


def test_a_target_without_features_is_refused(told):
    with pytest.raises(InputError, match=r"'NOPE9' has neither training cells nor target features \(nearest with"):
        told.sample(asked("NOPE9"), sampler=SAMPLER, unseen="features")


def test_a_model_without_features_says_how_to_get_one_that_has_some(runs):
    with pytest.raises(InputError, match="this model was trained without target features"):
        load_run("tiny", runs=runs).sample(asked("NOPE9"), sampler=SAMPLER, unseen="features")


def test_training_goes_on_with_its_features(told, store, capsys):
    features = ["--data.split", "targets", "--model.features", "target", "--model.features.size", "5"]
    root = told.folder.path.parent.parent
    assert run(train_arguments(store, root, "--run", "told", *SHORT, *features)) == 0
    assert "is already finished at step 6" in capsys.readouterr().out
    assert run(train_arguments(store, root, "--run", "told", *SHORT, "--data.split", "targets")) == 2
    assert "model.features" in capsys.readouterr().err


def test_a_feature_file_that_is_not_there_is_refused(store, tmp_path, capsys):
    features = ["--model.features", "target", "--model.features.source", "no.npz"]
    assert run(train_arguments(store, tmp_path, "--run", "x", *SHORT, *features)) == 2
    assert "--model.features.source no.npz: no such file" in capsys.readouterr().err


def test_effects_of_unseen_targets_are_told_beside_those_of_seen_ones(told, store, capsys):
    unseen, seen = held_out(store), told.plan.vocabulary.perturbation.labels
    table = asked(*unseen, seen[0], "non-targeting", n=1)
    effects = unseen_effects(told, table.drop(columns="n_cells"), "features")
    assert list(effects.ratios) == unseen and effects.context == ("line_A",)
    assert all(np.isfinite(ratio) and ratio > 0 for ratio in effects.ratios.values())
    labels = table.drop(columns="n_cells")
    sizes = effect_sizes(told, [*seen, *unseen])
    expected = sizes[len(seen) :] / np.median(sizes[: len(seen)])
    np.testing.assert_allclose(list(effects.ratios.values()), expected, rtol=1e-3)
    # Without their features all unseen targets are one.
    blind = dataclasses.replace(told, model=without_projection(told))
    np.testing.assert_allclose(np.ptp(list(unseen_effects(blind, labels, "features").ratios.values())), 0, atol=1e-5)
    assert unseen_effects(told, table.drop(columns="n_cells"), "null") is None
    assert unseen_effects(told, asked(seen[0]).drop(columns="n_cells"), "features") is None


def effect_sizes(told, targets):
    """Norm of the change of log expression from control in line A, from all logits of masked cells."""
    labels = asked("non-targeting", *targets).drop(columns="n_cells")
    rows = vocabulary_rows(labels, "features", told)
    logits = told.model(np.full((len(labels), told.model.genes), MASK), rows)
    means = np.asarray(jax.nn.softmax(logits, axis=-1) @ token_counts())
    expression = np.log1p(means / means.sum(1, keepdims=True) * 10_000)
    return np.linalg.norm(expression[1:] - expression[0], axis=1)


def without_projection(told):
    graph, state = nnx.split(told.model)
    flat = [(path, leaf * 0.0 if "projection" in path else leaf) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def test_a_job_says_it_in_one_line_and_keeps_it_in_the_provenance(told, store, tmp_path, capsys):
    unseen, out = held_out(store)[:2], tmp_path / "cells.h5ad"
    asked(*unseen, n=2).to_csv(tmp_path / "table.csv", index=False)
    given = ["--runs", str(told.folder.path.parent.parent), "--conditions", str(tmp_path / "table.csv")]
    steps = ["--sampler.schedule.steps", "2", "--unseen", "features", "--out", str(out)]
    assert run(["sample", "told", *given, *steps]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("predicted effect of ")]
    assert len(lines) == 1 and "2 unseen perturbations in line_A" in lines[0]
    stored = json.loads(anndata.read_h5ad(out).uns["lingshu"])["unseen_effects"]
    assert set(stored["ratios"]) == set(unseen) and stored["context"] == ["line_A"]


def test_weak_effects_are_warned_of_by_name():
    effects = UnseenEffects(("A549",), {f"G{i}": 0.01 * i for i in range(12)} | {"STRONG": 1.5})
    assert effects.weak[:2] == ["G0", "G1"] and "STRONG" not in effects.weak
    assert "G7 (0.07) and 4 more is below 0.2" in effects.warning and "G8" not in effects.warning
    assert (
        str(effects) == "predicted effect of 13 unseen perturbations in A549: 0.06 of that of seen ones (median; "
        "0.00 to 1.50)"
    )
    strong = UnseenEffects((), {"STRONG": 1.5})
    assert strong.warning is None and str(strong) == "predicted effect of unseen STRONG: 1.50 of that of seen ones"


def test_a_decay_of_own_rows_is_for_models_with_features(store, tmp_path, capsys):
    decay = ["--optimizer.perturbation-decay", "0.1"]
    assert run(train_arguments(store, tmp_path, "--run", "x", *SHORT, *decay)) == 2
    assert "add --model.features target" in capsys.readouterr().err


def log_mean(counts):
    counts = np.asarray(counts, float)
    return np.log1p(counts / counts.sum(1, keepdims=True) * 2_000).mean(0)


def discrimination(predicted, real):
    """1 - (rank of the true effect by L1 distance - 1) / (n - 1), with mid-ranks; chance is .5."""
    distance = np.abs(predicted[:, None] - real[None]).sum(-1)
    own = np.diag(distance)[:, None]
    rank = (distance < own).sum(1) + 0.5 * ((distance == own).sum(1) - 1)
    return 1 - rank / (len(real) - 1)


@pytest.mark.slow
def test_effects_of_unseen_targets_are_predicted_better_than_by_the_mean_effect(tmp_path):
    screen = simulate_screen(
        genes=400, contexts=1, perturbations=140, cells=40, controls=800, median_library=2_000, seed=3
    )
    screen.write_h5ad(tmp_path / "screen.h5ad")
    path = tmp_path / "screen.store"
    assert run(["ingest", str(tmp_path / "screen.h5ad"), "--out", str(path), *COLUMNS]) == 0
    assert run(["split", str(path), "--kind", "perturbations", "--name", "targets", "--test", "0.25"]) == 0
    steps = (
        "--training.steps 200 --training.batch-size 64 --training.evaluate-every 200 --training.save-every 300".split()
    )
    told = ["--run", "told", "--data.split", "targets", "--model.features", "target", *steps]
    assert run(["train", "demo", "--store", str(path), "--runs", str(tmp_path), *told]) == 0

    loaded, store = load_run("told", runs=tmp_path), CellStore.open(path)
    split, targets = load_split(store, "targets"), held_out(path)
    assert len(targets) >= 30 and set(targets) <= set(loaded.plan.vocabulary.perturbation.unseen)
    drawn = loaded.sample(asked("non-targeting", *targets, n=64), unseen="features")
    labels = drawn.obs["target_gene"].to_numpy()
    of = {label: log_mean(drawn.X[labels == label].toarray()) for label in ("non-targeting", *targets)}
    predicted = np.stack([of[label] - of["non-targeting"] for label in targets])

    obs = store.obs["target_gene"].astype(str).to_numpy()
    controls = log_mean(store.counts(np.flatnonzero(obs == "non-targeting")).toarray())
    test = np.sort(split.test)
    real = np.stack([log_mean(store.counts(test[obs[test] == label]).toarray()) for label in targets]) - controls
    rng = np.random.default_rng(0)
    treated = np.sort(split.train)[obs[np.sort(split.train)] != "non-targeting"]
    mean_effect = np.stack(
        [log_mean(store.counts(np.sort(rng.choice(treated, 64, replace=False))).toarray()) for _ in targets]
    )
    others = ~np.isin(store.panel.genes, targets)  # the targets' own genes would tell them apart
    score = discrimination(predicted[:, others], real[:, others])
    baseline = discrimination((mean_effect - controls)[:, others], real[:, others])
    shuffled = [
        discrimination(predicted[rng.permutation(len(real))][:, others], real[:, others]).mean() for _ in range(500)
    ]
    difference = score - baseline
    low = np.quantile([rng.choice(difference, len(difference)).mean() for _ in range(500)], 0.025)
    print(f"PDS {score.mean():.3f} of {len(targets)} unseen targets, {baseline.mean():.3f} of the sampled mean effect")
    assert np.mean(np.array(shuffled) >= score.mean()) < 0.05 and low > 0
