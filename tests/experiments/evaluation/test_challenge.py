"""The field's evaluator: called as by hand, complete, cached, and honest about what it cannot say."""

import dataclasses
import importlib.util
import pathlib

import anndata
import numpy as np
import pytest
import scipy.sparse

from experiments.evaluation import challenge, definitions
from experiments.evaluation.cell_eval import V1_DE, V1_PSEUDOBULK, VCC_EXPRESSION, CellEval, Side
from experiments.evaluation.challenge import V1_COLUMNS, VCC_COLUMNS, Challenge, challenge_tables
from experiments.evaluation.effects import Generated, evaluate_effects
from experiments.evaluation.held_out import HeldOut, read_held_out
from experiments.evaluation.labels import CONTROL
from experiments.evaluation.results import ChallengeTable, Evaluation
from experiments.evaluation.sides import Sides
from experiments.evaluation.training_effects import TrainingEffects
from tests.experiments.evaluation.conftest import World, screen_of

needs_evaluator = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("cell_eval2", "pdex")), reason="needs the eval extra"
)


@pytest.fixture(scope="module")
def world() -> World:
    """Ten perturbations held out in one context, as many generated cells as real ones."""
    return screen_of({"line_A": 10}, cells=30, generated=30, controls=80, genes=80)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("real-tables")


@pytest.fixture(scope="module")
def sides(world) -> tuple[HeldOut, TrainingEffects, Generated]:
    """What `evaluate` hands on."""
    read = Sides.read(world.store, world.split, world.statistics, world.oracle, part="test", seed=0)
    training = TrainingEffects.read(world.store, world.split, world.statistics)
    assert read.generated_labels is not None
    generated = Generated.of(read.generated, read.generated_labels, training.target_sum)
    rng = np.random.default_rng(0)
    return read_held_out(world.store, world.split, world.statistics, training, "test", rng), training, generated


@pytest.fixture(scope="module")
def tables(sides, cache) -> dict[str, ChallengeTable]:
    return {table.preset: table for table in challenge_tables(*sides, Challenge(cache=cache), seed=0)}


@needs_evaluator
def test_v1_columns_are_those_of_the_evaluator_called_by_hand_on_the_same_files(sides, tables, tmp_path) -> None:
    from cell_eval2 import EvalConfig, aggregate_metrics, compute_metrics

    held_out, training, generated = sides
    side = held_out.contexts["line_A"]
    names = sorted(name for where, name in held_out.cells)
    predicted = {name: generated.take(("line_A", name)) for name in names} | {CONTROL: side.prediction_controls}
    real = {name: held_out.cells["line_A", name] for name in names} | {CONTROL: side.truth_controls}
    files = [tmp_path / "predicted.h5ad", tmp_path / "real.h5ad"]
    for file, parts in zip(files, (predicted, real), strict=True):
        labels = np.concatenate([np.full(len(cells), name, dtype=object) for name, cells in parts.items()])
        counts = scipy.sparse.vstack([cells.counts for cells in parts.values()]).toarray().astype(np.float64)
        expression = np.log1p(counts / counts.sum(1, keepdims=True) * training.target_sum).astype(np.float32)
        data = anndata.AnnData(scipy.sparse.csr_matrix(expression))
        data.var_names, data.obs["target"] = list(training.genes), labels
        data.write_h5ad(file)
    columns = V1_PSEUDOBULK | V1_DE
    config = dataclasses.replace(EvalConfig.v1(), metrics=list(columns.values()), control=CONTROL)
    config = dataclasses.replace(config, de=dataclasses.replace(config.de, backend="pdex"))
    averages = aggregate_metrics(compute_metrics(*map(str, files), config=config))
    expected = dict(zip(averages["metric"].to_list(), averages["mean"].to_list(), strict=True))
    model = next(row for row in tables["v1"].rows if row.name == "model")
    assert model.cells == model.de_cells == 30
    for column, name in columns.items():
        assert model.metrics[column].value == pytest.approx(expected[name], abs=1e-5), column


@needs_evaluator
def test_every_column_and_the_average_are_there_for_the_model_and_baselines(tables) -> None:
    v1, vcc = tables["v1"], tables["vcc2026"]
    assert v1.columns == v1.averaged == V1_COLUMNS and vcc.columns == vcc.averaged == VCC_COLUMNS
    assert len(V1_COLUMNS) == 7 and len(VCC_COLUMNS) == 6
    baselines = {"mean_effect", "context_mean", "perturbation_transfer", "additive", "ridge_pca"}
    sampled = {f"{name} (sampled)" for name in baselines}
    assert {row.name for row in v1.rows} == {"model", "no_change"} | baselines | sampled
    assert {row.name for row in vcc.rows} == {"model", "no_change"} | sampled
    for table in tables.values():
        assert set(table.versions) == {"cell-eval2", "pdex"} and table.real_cells == 30
        for row in table.rows:
            constant = row.name in baselines
            assert set(row.metrics) == (set(V1_PSEUDOBULK) if constant else set(table.columns))
            assert (row.average.value is None) == constant and (row.cells is None) == constant
    rows = {row.name: row for row in v1.rows}
    assert rows["mean_effect (sampled)"].average.value == 0
    assert rows["model"].average.value > 0.2
    assert rows["model"].average.low <= rows["model"].average.value <= rows["model"].average.high


@needs_evaluator
def test_real_tables_are_found_again(sides, tables, cache, monkeypatch) -> None:
    from cell_eval2 import de_compute

    files = sorted(cache.rglob("*.parquet"))
    assert any("de_wilcoxon_table" in str(file) for file in files)
    monkeypatch.setattr(challenge, "fit_baselines", lambda training: [])
    calls, original = [], de_compute.compute_de
    monkeypatch.setattr(
        de_compute, "compute_de", lambda *args, **options: calls.append(1) or original(*args, **options)
    )
    again = {table.preset: table.rows[0] for table in challenge_tables(*sides, Challenge(cache=cache), seed=0)}
    assert again["v1"].metrics["DES"].value == tables["v1"].rows[0].metrics["DES"].value
    assert len(calls) == 2  # the prediction's, once per preset
    assert sorted(cache.rglob("*.parquet")) == files


@needs_evaluator
def test_discrimination_needs_ten_candidates(sides, monkeypatch) -> None:
    monkeypatch.setattr(challenge, "fit_baselines", lambda training: [])
    held_out, training, generated = sides
    few = dict(generated.members)
    few.pop(next(key for key in few if key[1] != CONTROL))
    v1, vcc = challenge_tables(held_out, training, dataclasses.replace(generated, members=few), Challenge(), seed=0)
    assert v1.rows[0].conditions == 9
    assert v1.rows[0].metrics["PDS"].value is None and v1.rows[0].metrics["MAE"].value is not None
    assert vcc.rows[0].metrics["PDS (cosine)"].value is None and v1.rows[0].average.value is None


@needs_evaluator
def test_a_perturbation_that_is_no_gene_keeps_its_gene_in_discrimination() -> None:
    genes = tuple(f"g{i}" for i in range(12))
    names = np.array([*genes[:10], CONTROL])
    rng = np.random.default_rng(0)
    predicted, real = 5 + rng.normal(size=(11, 12)) * 0.01, 5 + rng.normal(size=(11, 12)) * 0.01
    real[np.arange(10), np.arange(10)] -= 1 + np.arange(10)  # each one's own gene is all that is predicted wrong
    sides = [Side(values=side.astype(np.float32), labels=names) for side in (predicted, real)]
    found = {
        known: CellEval(genes=genes, targets={name: name if known else None for name in names[:10]})
        .v1({"PDS": V1_PSEUDOBULK["PDS"]}, *sides)
        .whole["PDS"]
        for known in (True, False)
    }
    assert found[True] == 1 > found[False]


def test_without_the_evaluator_one_note_says_what_is_missing(sides, world, monkeypatch) -> None:
    for module in (challenge, definitions):
        monkeypatch.setattr(module, "missing_packages", lambda: ["cell-eval2"])
    held_out, training, generated = sides
    assert challenge_tables(*sides, Challenge(), seed=0) == ()
    table, _, _ = evaluate_effects(held_out, training, generated, seed=0)
    found = Evaluation(
        store_hash="", split_name="", split_kind="", split_hash="", part="test", seed=0, n_genes=80, n_real=1,
        n_generated=1, effects=table,
    )  # fmt: skip
    notes = [note for note in definitions.notes_on(found, world.store) if "cell-eval2" in note]
    assert len(notes) == 1 and "lingshu-jax[eval]" in notes[0]


def test_real_cells_without_any_effect_leave_the_ratio_of_errors_out() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([CONTROL, *(f"P{i}" for i in range(4))], 20)
    sides = [Side(values=rng.poisson(1.0, (100, 30)).astype(np.float32), labels=labels) for _ in range(2)]
    names = {"expression MSE": VCC_EXPRESSION["expression MSE"], "PDS (cosine)": VCC_EXPRESSION["PDS (cosine)"]}
    genes = tuple(f"G{i}" for i in range(30))
    evaluator = CellEval(genes=genes, targets={f"P{i}": None for i in range(4)})
    found = [evaluator.vcc2026(names, *pair) for pair in (sides, sides[::-1])]
    undefined = [np.isnan(each.whole["expression MSE"]) for each in found]
    assert any(undefined) and all(0 <= each.whole["PDS (cosine)"] <= 1 for each in found)
