"""Fine-tuning: `train EXP --init.from REF` on permuted and other panels, with new labels, with frozen parts."""

import functools
import json
import pathlib
import shutil

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines import CellStore, load_split, load_statistics
from experiments import load_run
from experiments.__main__ import run
from experiments.assembly import plan
from experiments.commands.train import parse_options
from experiments.inheritance import find_parent, inherit, inherited_plan
from experiments.runs import RunFolder, find_run
from experiments.train import tokens_of
from experiments.training_cells import TrainingCells
from lingshu_jax.diffusion.corruption import corrupt
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh
from lingshu_jax.tokens import ABSENT
from lingshu_jax.training.checkpoint import Checkpoints
from lingshu_jax.training.inherit import parameter_name
from lingshu_jax.training.optimizer import make_optimizer
from tests.experiments.conftest import COLUMNS, TINY_MODEL

SHORT = "--training.steps 2 --training.log-every 1 --training.evaluate-every 2 --training.save-every 2".split()
SMALL = TINY_MODEL[TINY_MODEL.index("--training.batch-size") :]


@pytest.fixture(scope="module")
def runs(runs, tmp_path_factory) -> pathlib.Path:
    """A copy: other tests ask for the latest run of theirs."""
    return shutil.copytree(runs, tmp_path_factory.mktemp("inherited") / "runs")


def ingest(cells: anndata.AnnData, folder: pathlib.Path) -> pathlib.Path:
    cells.write_h5ad(folder / "cells.h5ad")
    assert run(["ingest", str(folder / "cells.h5ad"), "--out", str(folder / "cells.store"), *COLUMNS]) == 0
    return folder / "cells.store"


def arguments(store: pathlib.Path, runs: pathlib.Path, *more: str) -> list[str]:
    return [
        "train",
        "perturb",
        "--store",
        str(store),
        "--runs",
        str(runs),
        "--init.from",
        "tiny",
        *SMALL,
        *SHORT,
        *more,
    ]


def begun(store: pathlib.Path, runs: pathlib.Path, *more: str):
    """Plan, denoiser with averaged weights, and state of a fine-tuned run before step 1."""
    options = parse_options(arguments(store, runs, *more)[1:])
    opened = CellStore.open(store)
    split = load_split(opened, "default")
    statistics = load_statistics(opened, split)
    parent = find_parent(options.config.init, runs)
    new = inherited_plan(options.config, plan(options.config, statistics), parent)
    tx = make_optimizer(options.config.optimizer, 2, frozen=options.config.init.freeze)
    rates_at = functools.partial(TrainingCells(opened, split).label_rates, new, statistics)
    state, parts = inherit(parent, new, statistics, rates_at, tx, make_mesh(MeshConfig()))
    return new, parts.merge(state.ema), state


def bound(model, tokens: np.ndarray, masked: np.ndarray, conditions: dict) -> np.ndarray:
    """Nats of the masked genes given the others, per cell."""
    noised = jnp.where(masked, 281, tokens)
    nll = model.token_nll(noised, conditions, jnp.asarray(tokens))
    return np.asarray(jnp.where(masked, nll, 0.0).sum(1))


def cells_of(store: CellStore, vocabulary, rows: np.ndarray) -> tuple[np.ndarray, dict]:
    from data_pipelines import condition_rows

    return tokens_of(store, rows).astype(np.int32), condition_rows(store, rows, vocabulary)


def test_on_a_permuted_panel_it_begins_with_the_parents_bound(screen_file, store, runs, tmp_path):
    cells = anndata.read_h5ad(screen_file)
    order = np.random.default_rng(1).permutation(cells.n_vars)
    permuted = CellStore.open(ingest(cells[:, order].copy(), tmp_path))
    new, child, _ = begun(tmp_path / "cells.store", runs)
    parent = load_run("tiny", runs=runs)
    assert new.panel.genes != parent.plan.panel.genes and set(new.panel.genes) == set(parent.plan.panel.genes)
    tokens, conditions = cells_of(CellStore.open(store), parent.plan.vocabulary, np.arange(16))
    place = [parent.plan.panel.positions[gene] for gene in new.panel.genes]
    _, masked = corrupt(jnp.asarray(tokens), jnp.linspace(0.1, 1.0, 16), jax.random.key(0))
    masked = np.asarray(masked)
    expected = bound(parent.model, tokens, masked, conditions)
    np.testing.assert_allclose(bound(child, tokens[:, place], masked[:, place], conditions), expected, rtol=1e-6)
    assert np.ptp(expected) > 1.0 and permuted.n_genes == tokens.shape[1]


def changed_panel(screen_file: pathlib.Path) -> anndata.AnnData:
    """The screen without its first 5 genes, with 12 new ones, and with a perturbation that is new."""
    cells = anndata.read_h5ad(screen_file)
    rng = np.random.default_rng(2)
    extra = cells[:, rng.integers(0, cells.n_vars, 12)].copy()
    extra.var_names = [f"NEW{i}" for i in range(12)]
    changed = anndata.concat([cells[:, 5:], extra], axis="var", merge="first")
    labels = changed.obs["target_gene"].astype(str).to_numpy().copy()
    first = next(label for label in sorted(set(labels)) if label != "non-targeting")
    labels[labels == first] = "AAA_NEW"
    changed.obs["target_gene"] = labels
    return changed


@pytest.fixture(scope="module")
def changed(screen_file, tmp_path_factory) -> pathlib.Path:
    return ingest(changed_panel(screen_file), tmp_path_factory.mktemp("changed"))


def test_genes_keep_their_place_and_labels_their_row(changed, runs):
    new, child, _ = begun(changed, runs)
    parent = load_run("tiny", runs=runs)
    old = parent.plan
    for gene in set(new.panel.genes) & set(old.panel.genes):
        assert new.layout.place[new.panel.positions[gene]] == old.layout.place[old.panel.positions[gene]]
    gone = {int(old.layout.place[old.panel.positions[gene]]) for gene in set(old.panel.genes) - set(new.panel.genes)}
    assert set(new.layout.retired) == gone and len(gone) == 5
    added = {int(new.layout.place[new.panel.positions[f"NEW{i}"]]) for i in range(12)}
    assert not added & (gone | set(old.layout.place.tolist())) and len(added) == 12
    before, after = old.vocabulary.field("target_gene"), new.vocabulary.field("target_gene")
    assert after.labels == (*before.labels, "AAA_NEW")
    table = child.condition_tokens.tables["target_gene"][...]
    np.testing.assert_array_equal(table[: before.rows], parent.model.condition_tokens.tables["target_gene"][...])
    tokens = np.zeros((1, len(new.panel)), np.int32)
    assert (np.asarray(child.patches(jnp.asarray(tokens))).reshape(-1)[sorted(gone)] == ABSENT).all()


def test_known_genes_are_predicted_as_before_where_only_genes_went(screen_file, runs, store, tmp_path):
    """A removed gene is what it was for a source that did not measure it."""
    shorter = ingest(anndata.read_h5ad(screen_file)[:, 5:].copy(), tmp_path)
    new, child, _ = begun(shorter, runs)
    parent = load_run("tiny", runs=runs)
    tokens, conditions = cells_of(CellStore.open(store), parent.plan.vocabulary, np.arange(8))
    place = np.array([parent.plan.panel.positions[gene] for gene in new.panel.genes])
    unmeasured = np.full_like(tokens, ABSENT)
    unmeasured[:, place] = tokens[:, place]
    masked = np.random.default_rng(0).random(tokens.shape) < 0.5
    masked &= unmeasured != ABSENT
    expected = bound(parent.model, unmeasured, masked, conditions)
    np.testing.assert_allclose(bound(child, tokens[:, place], masked[:, place], conditions), expected, rtol=1e-5)


def test_it_trains_on_other_genes_and_labels_and_tells_where_it_comes_from(changed, runs, capsys):
    assert run(arguments(changed, runs, "--dry-run", "--init.freeze", "w_down")) == 0
    planned = capsys.readouterr().out
    assert run(arguments(changed, runs, "--run", "tuned")) == 0
    told = "begins with perturb/tiny, step 12: it knows 55 of 67 genes, 12 are new; 5 of its own are not in the store"
    for said in (planned, capsys.readouterr().out):
        assert told in said and "labels known, 1 new (AAA_NEW)" in said
    weights = {line.split()[0]: line.split()[1] for line in planned.splitlines() if len(line.split()) > 2}
    for name, leaf in parameters(load_run("tuned", runs=runs).model):
        assert weights[name] == f"{leaf.size:,}", name
    assert [line for line in planned.splitlines() if line.endswith(", frozen")] == [
        line for line in planned.splitlines() if line.split()[:1] == ["w_down"]
    ]
    record = json.loads((find_run("tuned", runs).path / "config.json").read_text())["parent"]
    assert record["run"] == str(find_run("tiny", runs).path) and record["step"] == 12 and len(record["hash"]) == 16
    tuned = load_run("tuned", runs=runs)
    assert "AAA_NEW" in tuned.plan.vocabulary.field("target_gene").labels
    import pandas as pd

    table = pd.DataFrame({"cell_line": ["line_A"], "target_gene": ["AAA_NEW"], "n_cells": [2]})
    assert tuned.sample(table).shape == (2, 67)
    assert run(arguments(changed, runs, "--run", "tuned")) == 0  # the same command knows the run


def parameters(model) -> list[tuple[str, np.ndarray]]:
    """Parameters by dotted name."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return [(parameter_name(path), np.asarray(leaf)) for path, leaf in leaves]


FOUR_STEPS = ["--training.steps", "4", "--init.freeze", "blocks"]


def child_of(runs: pathlib.Path) -> tuple[pathlib.Path, dict]:
    """The only fine-tuned run's folder and config."""
    found = {path.parent: json.loads(path.read_text()) for path in runs.glob("perturb/*/config.json")}
    ((folder, config),) = [(folder, config) for folder, config in found.items() if config["parent"]]
    return folder, config


def losses(folder: pathlib.Path) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in RunFolder(folder).read_metrics() if "loss" in entry}


def test_the_same_command_goes_on_although_the_parent_went_on_or_is_gone(store, runs, tmp_path, capsys):
    """An unnamed run: a parent that is still trained has another newest checkpoint at every restart."""
    parent = shutil.copytree(find_run("tiny", runs).path, tmp_path / "perturb" / "tiny")
    (parent / "checkpoints" / "12").rename(tmp_path / "later")
    command = arguments(store, tmp_path, *FOUR_STEPS)
    assert run(command) == 0
    child, config = child_of(tmp_path)
    assert config["parent"]["step"] == 6
    whole = losses(child)

    (tmp_path / "later").rename(parent / "checkpoints" / "12")
    shutil.rmtree(child / "checkpoints" / "4")
    capsys.readouterr()
    assert run(command) == 0
    assert f"run {child} resumes at step 2" in capsys.readouterr().out
    assert child_of(tmp_path) == (child, config) and losses(child) == whole

    shutil.rmtree(child / "checkpoints" / "4")
    parent.rename(tmp_path / "away")
    assert run(command) == 0
    assert f"run {child} resumes at step 2" in capsys.readouterr().out and losses(child) == whole
    assert run(["sample", str(child), "--split", "test", "--n", "1", "--runs", str(tmp_path)]) == 0


def test_a_child_that_has_saved_nothing_begins_again_with_what_it_began_with(store, runs, tmp_path, capsys):
    parent = shutil.copytree(find_run("tiny", runs).path, tmp_path / "perturb" / "tiny")
    (parent / "checkpoints" / "12").rename(tmp_path / "later")
    command = arguments(store, tmp_path, "--run", "child", *FOUR_STEPS)
    assert run(command) == 0
    child, _ = child_of(tmp_path)
    whole = losses(child)
    shutil.rmtree(child / "checkpoints")
    (tmp_path / "later").rename(parent / "checkpoints" / "12")
    assert run(command) == 0 and losses(child) == whole

    shutil.rmtree(child / "checkpoints")
    shutil.rmtree(parent / "checkpoints" / "6")
    capsys.readouterr()
    assert run(command) == 2
    assert "does not hold the checkpoint of step 6" in capsys.readouterr().err
    assert run([*command, "--new"]) == 0


def test_frozen_parts_stay_as_they_are(changed, runs):
    frozen = ["--init.freeze", "blocks", "condition_tokens.tables.t.*"]
    assert run(arguments(changed, runs, "--run", "frozen", *frozen)) == 0
    _, _, before = begun(changed, runs, *frozen)
    with_state = Checkpoints(find_run("frozen", runs).checkpoints.resolve(), read_only=True)
    after = with_state.restore(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), before), None, step=2
    ).state
    for name, is_frozen in {"blocks": True, "w_down": False, "condition_tokens": True}.items():
        same = [
            np.array_equal(a, b)
            for (path, a), b in zip(
                jax.tree_util.tree_leaves_with_path(before.params[name]),
                jax.tree.leaves(after.params[name]),
                strict=True,
            )
            if name != "condition_tokens" or "target_gene" in str(path)
        ]
        assert all(same) == is_frozen
    moments = [
        float(jnp.abs(leaf).max())
        for path, leaf in jax.tree_util.tree_leaves_with_path(after.opt_state)
        if "blocks" in str(path)
    ]
    assert moments and max(moments) == 0.0


REFUSED = {
    "another width": (["--model.width", "32"], "Leave --model.width out"),
    "another start": (["--model.genes-per-patch", "4"], "Leave --model.genes-per-patch out"),
    "a size": (["--size", "tiny"], "Leave --size out"),
    "latest": (["--init.from", "latest"], "must name a run"),
    "the best": (["--init.from", "best:val_nats@val"], "must name a run"),
    "an unknown run": (["--init.from", "tinny"], "nearest: tiny"),
    "an unknown step": (["--init.step", "7"], "complete ones"),
    "a part that is not there": (["--init.freeze", "block"], "nearest: blocks"),
    "everything frozen": (["--init.freeze", ".*"], "nothing would be trained"),
    "no regular expression": (["--init.freeze", "("], "no regular expression"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(what, store, runs, capsys):
    more, reason = REFUSED[what]
    before = sorted(runs.rglob("config.json"))
    assert run(arguments(store, runs, *more)) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1, said
    assert sorted(runs.rglob("config.json")) == before
    assert run(arguments(store, runs, *more, "--dry-run")) == 2
    assert reason in capsys.readouterr().err


def test_other_genes_altogether_are_refused(screen_file, runs, tmp_path, capsys):
    cells = anndata.read_h5ad(screen_file)
    cells.var_names = [f"X{i}" for i in range(cells.n_vars)]
    assert run(arguments(ingest(cells, tmp_path), runs)) == 2
    assert "knows none of the store's 60 genes" in capsys.readouterr().err
