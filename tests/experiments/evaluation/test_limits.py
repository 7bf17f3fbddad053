"""What speaks against the model is said, and nothing else."""

import dataclasses

import pytest

from experiments.evaluation.limits import limits
from experiments.evaluation.results import (
    BoundRow,
    CalibrationRow,
    CollapseRow,
    ConditionRow,
    EffectRow,
    EffectTable,
    Estimate,
    Evaluation,
    MetricRow,
)

PLAIN = Evaluation(
    store_hash="a", split_name="b", split_kind="c", split_hash="d", part="test", seed=0, n_genes=9, n_real=5,
    n_generated=5,
)  # fmt: skip


def bound(low: float, value: float, high: float) -> Evaluation:
    row = BoundRow(
        name="nb", nats=Estimate(value=9.0), nats_per_gene=1.0, difference=Estimate(value=value, low=low, high=high)
    )
    return dataclasses.replace(PLAIN, bound=(row,))


def effects(model: dict[str, float], others: dict[str, dict[str, float]], *conditions: ConditionRow) -> Evaluation:
    rows = [
        EffectRow(name=name, metrics={key: Estimate(value=value) for key, value in found.items()})
        for name, found in {"model": model, **others}.items()
    ]
    table = EffectTable(rows=tuple(rows), conditions=conditions, candidates={}, controls={}, ceiling=None)
    return dataclasses.replace(PLAIN, effects=table)


def condition(name: str, value: float, *, reason: str = "") -> ConditionRow:
    metrics = {"model": {"pearson_delta": value}}
    return ConditionRow(
        context="line", perturbation=name, n_real=40, n_generated=40, n_training=0, scored=not reason, reason=reason,
        metrics=metrics,
    )  # fmt: skip


@pytest.mark.parametrize(
    "difference, said", [((-3, -2, -1), None), ((-3, -1, 1), "do not tell"), ((1, 2, 3), "better, by 2.0 nats")]
)
def test_a_likelihood_that_is_not_beaten_is_named(difference, said):
    found = limits(bound(*difference))
    assert found == [] if said is None else len(found) == 1 and said in found[0] and "nb" in found[0]


def test_the_best_rival_of_each_metric_is_named_and_ceilings_are_none():
    others = {
        "additive": {"pds": 0.8, "mae": 0.2},
        "mean_effect": {"pds": 0.9, "mae": 0.3},
        "real vs real": {"pds": 1.0},
    }
    assert limits(effects({"pds": 0.7, "mae": 0.1}, others)) == ["pds: mean_effect reaches 0.900, the model 0.700."]
    assert limits(effects({"pds": 0.95, "mae": 0.25}, others)) == ["mae: additive reaches 0.200, the model 0.250."]


def test_failing_conditions_and_unscored_ones_are_listed():
    rows = [condition(f"P{i}", i / 10) for i in range(9)] + [condition("few", 0.0, reason="fewer than 30")]
    worst, unscored = limits(effects({}, {}, *rows))
    assert worst.startswith("Lowest Pearson-delta: P0 in line (0.00, 40 real cells)") and "P5" not in worst
    assert unscored == "1 of 10 conditions are not scored: fewer than 30."


def test_cells_that_look_wrong_are_named():
    collapse = (CollapseRow(name="model", share=0.1), CollapseRow(name="additive", share=0.0))
    flat = CalibrationRow(name="model", level="1 to 10", genes=3, n=9, shares=(1.0,), error=0.3)
    cells = (
        MetricRow(name="real", n=9, values={"library_log_sd": 0.5}),
        MetricRow(name="model", n=9, values={"library_log_sd": 0.3, "library_ks": 0.2}),
    )
    found = " ".join(limits(dataclasses.replace(PLAIN, collapse=collapse, calibration=(flat,), cells=cells)))
    for words in ("depend little on the perturbation: 0.10", "mean count 1 to 10", "distance 0.20", "vary less"):
        assert words in found
    assert len(found.split(". ")) == 4
