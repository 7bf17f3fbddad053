import numpy as np
import pytest

from data_pipelines.depth_prior import ConditionSizes, fit_depth_prior
from lingshu_jax.vocabulary import CONTROL_ROW, NULL_ROW, ConditionField, ConditionVocabulary

LINE = ConditionField(name="line", labels=("A", "B"))
TARGET = ConditionField(name="target", kind="perturbation", labels=("X",), controls=("ctrl", "PBS"))
VOCABULARY = ConditionVocabulary((LINE, TARGET))
TRUTH = {("A", "X"): 0.3 - 0.5, ("A", "ctrl"): 0.3, ("B", "ctrl"): -0.2, ("B", "PBS"): -0.2}
CELLS = {("A", "X"): 1000, ("A", "ctrl"): 2000, ("B", "ctrl"): 3000, ("B", "PBS"): 1000}
WITHIN = {"A": 0.09, "B": 0.04}


def fit(vocabulary=VOCABULARY):
    conditions = {labels: ConditionSizes(CELLS[labels], TRUTH[labels], WITHIN[labels[0]]) for labels in TRUTH}
    return fit_depth_prior(conditions, ("line", "target"), vocabulary)


def test_additive_effects_are_found_and_leave_the_spread_within():
    prior = fit()
    line, target = prior.mean_effects["line"], prior.mean_effects["target"]
    # Means of log-normals: half the variance of A's cells beyond B's is added.
    assert line[LINE.row("A")] - line[LINE.row("B")] == pytest.approx(0.5 + (WITHIN["A"] - WITHIN["B"]) / 2, abs=0.01)
    assert target[TARGET.row("X")] - target[CONTROL_ROW] == pytest.approx(-0.5, abs=0.01)
    assert prior.log_variance == pytest.approx((3 * 0.09 + 4 * 0.04) / 7, abs=1e-3)


def test_a_label_has_a_spread_of_its_own():
    spread = fit().spread_effects
    ratio = np.exp(spread["line"][LINE.row("A")] - spread["line"][LINE.row("B")])
    assert ratio == pytest.approx(0.09 / 0.04, rel=0.05)
    assert spread["line"][NULL_ROW] == 0.0


def test_the_average_training_cell_has_depth_1_and_null_rows_add_nothing():
    line, target = fit().mean_effects["line"], fit().mean_effects["target"]
    assert line[NULL_ROW] == target[NULL_ROW] == 0.0
    depth = [n * np.exp(line[LINE.row(a)] + target[TARGET.row(b)]) for (a, b), n in CELLS.items()]
    assert sum(depth) / sum(CELLS.values()) == pytest.approx(1.0)


def test_a_model_without_a_field_leaves_its_variance():
    by_nothing, by_line = fit(ConditionVocabulary()), fit(ConditionVocabulary((LINE,)))
    assert by_nothing.mean_effects == {}
    assert fit().log_variance < by_line.log_variance < by_nothing.log_variance


def test_a_label_with_few_cells_is_shrunk():
    conditions = {("A",): ConditionSizes(1000, 0.0, 0.1), ("B",): ConditionSizes(1, 3.0, 0.0)}
    effect = fit_depth_prior(conditions, ("line",), ConditionVocabulary((LINE,))).mean_effects["line"]
    assert 0 < effect[LINE.row("B")] - effect[LINE.row("A")] < 1.0
