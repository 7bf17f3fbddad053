import numpy as np
import pytest

from data_pipelines.depth_prior import fit_depth_prior
from lingshu_jax.vocabulary import CONTROL_ROW, NULL_ROW, ConditionField, ConditionVocabulary

LINE = ConditionField(name="line", labels=("A", "B"))
TARGET = ConditionField(name="target", kind="perturbation", labels=("X",), controls=("ctrl", "PBS"))
VOCABULARY = ConditionVocabulary((LINE, TARGET))
CELLS = {("A", "X"): 1000, ("A", "ctrl"): 2000, ("B", "ctrl"): 3000, ("B", "PBS"): 1000}
TRUTH = {("A", "X"): 0.3 - 0.5, ("A", "ctrl"): 0.3, ("B", "ctrl"): -0.2, ("B", "PBS"): -0.2}


def fit(vocabulary=VOCABULARY, within=0.04):
    sizes, counts = np.array(list(TRUTH.values())), np.array(list(CELLS.values()))
    total = within + np.average((sizes - np.average(sizes, weights=counts)) ** 2, weights=counts)
    return fit_depth_prior(CELLS, TRUTH, total, ("line", "target"), vocabulary)


def test_additive_effects_are_found_and_leave_the_spread_within():
    effects, left = fit()
    line, target = effects["line"], effects["target"]
    assert line[LINE.row("A")] - line[LINE.row("B")] == pytest.approx(0.5, abs=0.01)
    assert target[TARGET.row("X")] - target[CONTROL_ROW] == pytest.approx(-0.5, abs=0.01)
    assert left == pytest.approx(0.04, abs=1e-3)


def test_the_average_training_cell_has_depth_1_and_null_rows_add_nothing():
    effects, _ = fit()
    assert effects["line"][NULL_ROW] == effects["target"][NULL_ROW] == 0.0
    depth = [
        n * np.exp(effects["line"][LINE.row(line)] + effects["target"][TARGET.row(target)])
        for (line, target), n in CELLS.items()
    ]
    assert sum(depth) / sum(CELLS.values()) == pytest.approx(1.0)


def test_a_model_without_a_field_leaves_its_variance():
    assert fit(ConditionVocabulary())[0] == {}
    _, by_line = fit(ConditionVocabulary((LINE,)))
    _, by_nothing = fit(ConditionVocabulary())
    assert 0.04 < by_line < by_nothing


def test_a_label_with_few_cells_is_shrunk():
    effects, _ = fit_depth_prior(
        {("A",): 1000, ("B",): 1}, {("A",): 0.0, ("B",): 3.0}, 0.1, ("line",), ConditionVocabulary((LINE,))
    )
    assert 0 < effects["line"][LINE.row("B")] - effects["line"][LINE.row("A")] < 1.0
