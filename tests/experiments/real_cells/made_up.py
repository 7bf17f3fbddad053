"""Evaluations written down by hand."""

from experiments.evaluation.results import (
    BoundRow,
    Composition,
    ConditionRow,
    EffectRow,
    EffectTable,
    Estimate,
    Evaluation,
    MetricRow,
)

Metrics = dict[str, dict[str, float | None]]


def evaluation(**given) -> Evaluation:
    known = {
        "store_hash": "s", "split_name": "cells", "split_kind": "RandomCells", "split_hash": "h", "part": "test",
        "seed": 0, "n_genes": 3, "n_real": 40, "n_generated": 40, "seconds": 60.0,
    }  # fmt: skip
    return Evaluation(**(known | given))


def bounds(model: float = 100.0) -> tuple[BoundRow, ...]:
    """The model and NB x depth, 8 nats above it."""
    return (
        BoundRow(name="model", nats=Estimate(value=model, n=40), nats_per_gene=1.0),
        BoundRow(
            name="nb_depth",
            nats=Estimate(value=model + 8, n=40),
            nats_per_gene=1.0,
            difference=Estimate(value=-8.0, low=-9.0, high=-7.0, n=40),
        ),
    )


def condition(context: str, perturbation: str, metrics: Metrics, *, reason: str = "") -> ConditionRow:
    return ConditionRow(
        context=context,
        perturbation=perturbation,
        n_real=40,
        n_generated=400,
        n_training=0,
        scored=not reason,
        reason=reason,
        metrics=metrics,
    )


def effects(*conditions: ConditionRow, candidates: int = 12) -> EffectTable:
    return EffectTable(
        rows=(EffectRow(name="model", metrics={"pds": Estimate(value=0.75, low=0.7, high=0.8, n=2)}),),
        conditions=conditions,
        candidates={row.context: candidates for row in conditions},
        controls={},
        ceiling=None,
    )


def population(mmd: float, library: float, share: float) -> Evaluation:
    """One seed: the model's MMD and library size, and its share of the first of two types; NB at fixed values."""
    rows = {"model": (mmd, library, share), "nb_depth": (0.5, 80.0, 0.7), "real vs real": (0.1, 100.0, 0.5)}
    cells = {"real": 100.0} | {name: values[1] for name, values in rows.items()}
    return evaluation(
        distribution=tuple(MetricRow(name=name, n=20, values={"mmd": values[0]}) for name, values in rows.items()),
        cells=tuple(MetricRow(name=name, n=40, values={"library_median": value}) for name, value in cells.items()),
        composition=Composition(
            column="type",
            labels=("a", "b"),
            shares={"real": (0.5, 0.5), "model": (share, 1 - share), "nb_depth": (0.7, 0.3)},
            accuracy={},
        ),
    )
