"""Averages of the evaluator's values over contexts, and relative to a baseline."""

import numpy as np
import pytest

from experiments.evaluation.cell_eval import Found
from experiments.evaluation.challenge_scores import Tally, average_score, clipped


def tally(name: str, **contexts: dict[str, list[float]]) -> Tally:
    """A tally with values per perturbation p, q, ... of every column; NaN stays."""
    made = Tally(name=name)
    for context, columns in contexts.items():
        by_perturbation = {column: dict(zip("pqrs", values, strict=False)) for column, values in columns.items()}
        whole = {column: float(np.nanmean(values)) for column, values in columns.items()}
        made.add(context, Found(by_perturbation=by_perturbation, whole=whole))
    return made


def test_the_rule_is_relative_to_the_baseline_and_clipped() -> None:
    u, b = np.array([0.8, 0.2, np.nan, 0.9]), np.array([0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(clipped("DES", u, b), [0.6, 0, 0, 0])
    np.testing.assert_allclose(clipped("MAE", np.array([0.1, 0.4]), np.array([0.2, 0.2])), [0.5, 0])


def test_contexts_weigh_equally_and_undefined_values_are_left_out() -> None:
    found = tally("m", a={"DES": [1.0, 1.0, 1.0]}, b={"DES": [0.0, np.nan]})
    assert found.row(("DES",), np.random.default_rng(0)).metrics["DES"].value == 0.5


def test_the_average_is_of_the_columns_given_on_the_conditions_of_both() -> None:
    rng = np.random.default_rng(0)
    mine = tally("m", a={"DES": [0.8, 0.6], "MAE": [0.1, 0.1]})
    base = tally("b", a={"DES": [0.5, 0.5, 0.0], "MAE": [0.2, 0.2, 9.0]})
    assert average_score(mine, base, ("DES", "MAE"), clipped, rng).value == pytest.approx((0.4 + 0.5) / 2)
    assert average_score(mine, base, ("DES", "AUPRC"), clipped, rng).value is None
    assert average_score(base, base, ("DES", "MAE"), clipped, rng).value == 0
    found = average_score(mine, base, ("DES", "MAE"), clipped, rng)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_a_value_per_context_has_no_interval_but_counts_in_the_average() -> None:
    rng = np.random.default_rng(0)
    mine, base = tally("m", a={"Spearman #DEG": [0.8, 0.8]}), tally("b", a={"Spearman #DEG": [0.0, 0.0]})
    assert mine.row(("Spearman #DEG",), rng).metrics["Spearman #DEG"].low is None
    assert average_score(mine, base, ("Spearman #DEG",), clipped, rng).value == pytest.approx(0.8)
