"""The numbers by which runs are compared: the model's own, of one evaluation, by one name each."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from data_pipelines.errors import InputError
from experiments.runs import RunFolder

LOWER_IS_BETTER = frozenset(
    ("val_nats", "nats", "nats_minus_nb_depth", "mae", "energy_distance", "mmd", "w1_sinkhorn", "correlation_error",
     "library_ks", "zero_ks")
)  # fmt: skip
HIGHER_IS_BETTER = frozenset(
    ("pearson_delta", "pearson_residual", "pds", "planted", "ilisi", "pearson_means", "spearman_means")
)
METRICS = tuple(sorted(LOWER_IS_BETTER | HIGHER_IS_BETTER))
_MODEL = "model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """One evaluation of a run."""

    name: str
    """Its folder."""
    part: str
    """Part of the split whose cells were held out."""
    step: int | None
    """The checkpoint that was judged."""
    split_hash: str
    store_hash: str
    generated: int
    """Cells."""
    values: dict[str, float]
    """By metric; what could not be measured is missing."""


def read_scores(run: RunFolder) -> Iterator[Scored]:
    """A run's evaluations, by name; one that cannot be read is left out, since its own commands say so."""
    for file in sorted(run.evaluations.glob("*/metrics.json")):
        try:
            tree = json.loads(file.read_text())
            yield Scored(
                name=file.parent.name,
                part=tree["part"],
                step=tree.get("step", tree["provenance"].get("step")),
                split_hash=tree["split_hash"],
                store_hash=tree["store_hash"],
                generated=tree["n_generated"],
                values=metric_values(tree),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def better(metric: str, one: float, other: float) -> bool:
    """Whether one value is better than another.

    Raises:
        InputError: there is no such metric.
    """
    check_metric(metric)
    return one < other if metric in LOWER_IS_BETTER else one > other


def check_metric(metric: str) -> str:
    """The metric, if runs are compared by it.

    Raises:
        InputError: they are not; names the nearest.
    """
    from lingshu_jax.vocabulary import nearest

    if metric not in METRICS:
        raise InputError(
            f"no metric {metric!r} (nearest: {nearest(metric, METRICS)}). There are: {', '.join(METRICS)}."
        )
    return metric


def challenge_values(tree: dict[str, Any]) -> dict[str, float]:
    """The model's scores by the field's evaluator, and their averages, as PRESET.COLUMN."""
    found: dict[str, float] = {}
    for table in tree.get("challenge", ()):
        for row in table["rows"]:
            if row["name"] == _MODEL:
                values = {name: estimate["value"] for name, estimate in row["metrics"].items()}
                values["average"] = (row.get("average") or {}).get("value")
                found |= {f"{table['preset']}.{name}": value for name, value in values.items() if value is not None}
    return found


def metric_values(tree: dict[str, Any]) -> dict[str, float]:
    """The model's own numbers in an evaluation's metrics.json, by metric."""
    found: dict[str, Any] = {}
    for row in tree["bound"]:
        if row["name"] == _MODEL:
            found["nats"] = row["nats"]["value"]
        elif row["name"] == "nb_depth" and row["difference"] is not None:
            found["nats_minus_nb_depth"] = row["difference"]["value"]
    for table in ("distribution", "cells"):
        found |= next((row["values"] for row in tree[table] if row["name"] == _MODEL), {})
    for row in (tree["effects"] or {"rows": ()})["rows"]:
        if row["name"] == _MODEL:
            found |= {name: estimate["value"] for name, estimate in row["metrics"].items()}
    for row in tree["planted"]:
        if row["name"] == _MODEL:
            found["planted"] = row["share"]["value"]
    return {name: value for name, value in found.items() if name in METRICS and isinstance(value, int | float)}
