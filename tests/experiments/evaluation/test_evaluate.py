"""Whole evaluations of cells whose quality is known beforehand."""

import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.errors import InputError
from experiments.evaluation.evaluate import Bounds, evaluate
from experiments.evaluation.held_out import Fewest
from experiments.evaluation.results import Evaluation


def run(world, generated=None, **options) -> Evaluation:
    return evaluate(
        store=world.store,
        split=world.split,
        statistics=world.statistics,
        generated=world.oracle if generated is None else generated,
        embedding=False,
        **options,
    )


def effect_rows(evaluation: Evaluation) -> dict:
    assert evaluation.effects is not None
    return {row.name: row for row in evaluation.effects.rows}


@pytest.fixture(scope="module")
def oracle(screen) -> Evaluation:
    rows = screen.split.test[:60]
    bounds = Bounds(rows=rows, nats=np.full(60, 400.0), standard_errors=np.full(60, 2.0))
    return run(screen, bounds=bounds)


def test_an_oracle_beats_the_mean_effect_and_reaches_the_replicates(oracle) -> None:
    rows = effect_rows(oracle)
    gain = rows["model"].minus_mean_effect
    assert gain["pearson_delta"].low > 0 and gain["pds"].low > 0
    assert rows["model"].metrics["pds"].value > 0.95
    assert rows["model"].pds_p < 0.01
    assert rows["model"].metrics["pearson_delta"].value > rows["real vs real"].metrics["pearson_delta"].value - 0.1
    assert rows["model"].metrics["mae"].value < rows["mean_effect"].metrics["mae"].value
    assert rows["model"].metrics["energy_distance"].value < rows["no_change"].metrics["energy_distance"].value


def test_an_oracle_recovers_the_planted_signs_and_no_change_does_not(oracle) -> None:
    planted = {row.name: row for row in oracle.planted}
    assert planted["model"].share.value > 0.97
    assert planted["real vs real"].share.value > 0.95
    assert 0.3 < planted["no_change"].share.value < 0.7
    assert planted["model"].effects == planted["mean_effect"].effects > 50


def test_fewest_cells_are_a_setting_that_stands_with_the_scores(screen) -> None:
    more, fewer = (run(screen, fewest=Fewest(cells=cells, controls=20)).effects for cells in (1_000, 10))
    assert more is not None and fewer is not None
    assert not any(row.scored for row in more.conditions) and more.fewest_cells == 1_000
    assert {row.reason for row in more.conditions} == {"fewer than 1000 real held-out cells"}
    assert all(row.scored for row in fewer.conditions) and fewer.fewest_cells == 10
    none = run(screen, fewest=Fewest(cells=10, controls=10_000)).effects
    assert none is not None
    assert {row.reason for row in none.conditions} == {"fewer than 10000 held-out controls in this context"}


def test_copied_controls_have_no_effect(screen) -> None:
    obs = screen.store.obs.iloc[screen.split.train]
    oracle = screen.oracle[screen.oracle.obs["target_gene"] != "non-targeting"].copy()
    rng, rows = np.random.default_rng(0), []
    for context in oracle.obs["cell_line"].astype(str):
        same = (obs["cell_line"] == context) & (obs["target_gene"] == "non-targeting")
        rows.append(rng.choice(screen.split.train[same.to_numpy()]))
    oracle.X = screen.store.counts(np.array(rows))
    model = effect_rows(run(screen, oracle))["model"].metrics
    assert abs(model["pearson_delta"].value) < 0.15
    assert model["pds"].value < 0.75


def test_every_table_has_the_model_baselines_and_a_real_row(oracle) -> None:
    assert [row.name for row in oracle.distribution] == [
        "model", "independent genes", "nb_depth", "nb_depth per label", "real vs real",
    ]  # fmt: skip
    assert {row.n for row in oracle.distribution} == {oracle.distribution[0].n}
    assert {row.name for row in oracle.cells} >= {"real", "model", "real vs real", "independent genes", "nb_depth"}
    values = {row.name: row.values for row in oracle.distribution}
    assert values["model"]["mmd"] < values["nb_depth"]["mmd"]
    assert values["model"]["ilisi"] > values["nb_depth"]["ilisi"]
    assert values["model"]["correlation_error"] < values["independent genes"]["correlation_error"]
    cells = {row.name: row.values for row in oracle.cells}
    assert cells["model"]["library_ks"] < 0.15 < cells["independent genes"]["library_ks"]
    assert set(effect_rows(oracle)) >= {
        "model", "model (generated controls)", "no_change", "mean_effect", "mean_effect (sampled)", "context_mean",
        "perturbation_transfer", "additive", "real vs real",
    }  # fmt: skip


def test_composition_is_told_by_one_classifier_for_both_sides(oracle) -> None:
    found = oracle.composition
    assert found is not None and found.labels == ("line_A", "line_B")
    assert found.accuracy["real"] > 0.95 and found.accuracy["model"] > 0.95
    np.testing.assert_allclose(found.shares["real"], found.shares["model"], atol=0.05)


def test_the_headline_names_the_model_and_what_it_has_to_beat(oracle, plain) -> None:
    text = "\n".join(oracle.headline())
    for words in (
        "model minus nb_depth",
        "effects, model: pearson_delta",
        "effects, mean_effect",
        "planted signs right",
    ):
        assert words in text
    assert [line.split(":")[0] for line in run(plain).headline()] == ["library size, real", "library size, model"]


def test_bounds_are_paired_with_every_baseline_on_the_same_cells(oracle) -> None:
    model, *others = oracle.bound
    assert model.name == "model" and model.nats.value == pytest.approx(400)
    for row in others:
        assert row.nats.n == 60
        assert row.difference.value == pytest.approx(400 - row.nats.value)


def test_small_conditions_are_listed_with_the_reason_and_not_scored(screen) -> None:
    target = screen.oracle.obs["target_gene"].astype(str).to_numpy()
    left_out = sorted(set(target) - {"non-targeting"})[0]
    table = run(screen, screen.oracle[target != left_out].copy()).effects
    listed = {row.perturbation: row for row in table.conditions}
    assert not listed[left_out].scored and listed[left_out].reason == "no generated cells"
    assert sum(row.scored for row in table.conditions) == 11


def test_conditions_seen_in_training_have_the_training_mean_as_baseline(screen) -> None:
    rows = np.random.default_rng(1).permutation(screen.store.n_cells)
    split = dataclasses.replace(
        screen.split, train=np.sort(rows[: len(rows) // 5]), test=np.sort(rows[len(rows) // 5 :])
    )
    world = dataclasses.replace(screen, split=split)
    table = run(world, screen.oracle).effects
    assert "training_mean" in {row.name for row in table.rows}
    assert all(row.n_training > 0 for row in table.conditions if row.scored)


def test_cells_without_any_condition_are_evaluated(plain) -> None:
    found = run(plain)
    assert found.effects is None and found.composition is None and not found.planted
    assert {row.name for row in found.bound} == {"independent genes", "nb_depth", "nb_depth x 12 clusters"}
    assert found.bound[0].difference is None
    assert any("No held-out bound" in note for note in found.notes)


def test_an_evaluation_comes_back_from_disk_as_it_was(oracle, tmp_path) -> None:
    oracle.save(tmp_path / "here")
    back = Evaluation.load(tmp_path / "here")
    assert back == oracle
    assert back.arrays.keys() == oracle.arrays.keys()
    json.loads((tmp_path / "here" / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["figures.npz", "metrics.json"]


def test_a_mixed_up_evaluation_does_not_load(oracle, tmp_path) -> None:
    oracle.save(tmp_path)
    (tmp_path / "figures.npz").write_bytes(b"something else")
    with pytest.raises(InputError, match="does not belong"):
        Evaluation.load(tmp_path)
    for damaged in (b"", b"[1, 2]", b"\xff\xfe", b'{"format": 1'):
        (tmp_path / "metrics.json").write_bytes(damaged)
        with pytest.raises(InputError, match=r"metrics\.json is damaged"):
            Evaluation.load(tmp_path)
    with pytest.raises(InputError, match="no evaluation"):
        Evaluation.load(tmp_path / "nothing")


def test_the_same_seed_gives_the_same_evaluation(plain) -> None:
    assert run(plain, seed=3) == run(plain, seed=3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda cells: cells[:, ::-1].copy(), "panel"),
        (lambda cells: cells[:0].copy(), "no generated cells"),
        (lambda cells: _halved(cells), "no counts"),
    ],
)
def test_cells_that_cannot_be_evaluated_are_refused(plain, spoil, message) -> None:
    with pytest.raises(InputError, match=message):
        run(plain, spoil(plain.oracle))


def test_an_unknown_part_and_foreign_statistics_are_refused(plain) -> None:
    with pytest.raises(InputError, match="part 'val'"):
        run(plain, part="val")
    with pytest.raises(InputError, match="statistics"):
        run(dataclasses.replace(plain, split=dataclasses.replace(plain.split, hash="other")))


def _halved(cells):
    cells = cells.copy()
    cells.X = cells.X * 0.5
    return cells
