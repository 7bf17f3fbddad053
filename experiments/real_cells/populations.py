"""Generated populations beside sampled baselines and the other half of the real cells, over seeds of sampling."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.real_cells.drawings import layouts
from experiments.real_cells.reading import MISSING, RUN_COLUMNS, Drawing, Table, number, run_cells

if TYPE_CHECKING:
    from experiments.evaluation.results import Evaluation
    from experiments.real_cells.found import Found
    from experiments.real_cells.task import Task

METHODS = ("model", "nb_depth per label", "nb_depth", "independent genes", "real vs real")
COLUMNS = {
    "mmd": ("MMD", 4),
    "w1_sinkhorn": ("W1", 3),
    "ilisi": ("iLISI", 3),
    "library_median": ("library / real", 3),
    "library_log_sd": ("its log sd / real", 3),
    "library_ks": ("library KS", 3),
    "share_error": ("type shares", 3),
}
"""Value -> heading and digits."""


@dataclasses.dataclass(frozen=True)
class Populations:
    """Distances to the same half of the held-out cells, at equal numbers of cells; a row per task and method."""

    def place(self, task: "Task") -> str:
        return "distributions"

    def table(self, found: "Sequence[Found]") -> Table:
        headings = tuple(heading for heading, _ in COLUMNS.values())
        columns = ("task", "cells a side", "cells", *headings, *RUN_COLUMNS)
        drawn = [(one, layouts(one.first)) for one in found]
        drawings = tuple(
            Drawing(
                name=f"{one.task.experiment}-umap",
                about=f"{one.task.experiment}: real and generated cells in one UMAP; grey: the other side",
                png=png,
            )
            for one, png in drawn
            if png is not None
        )
        return Table(columns, tuple(row for one in found for row in self._rows(one)), drawings=drawings)

    def _rows(self, found: "Found") -> Iterator[tuple[str, ...]]:
        by_method = {method: [_values(one, method) for one in found.evaluations] for method in METHODS}
        sizes = {str(row.n) for one in found.evaluations for row in one.distribution[:1]}
        n = ", ".join(sorted(sizes)) or MISSING
        run = run_cells(found)
        for method, seeds in by_method.items():
            if any(seeds):
                told = run if method == "model" else ("",) * len(run)
                yield (found.task.experiment, n, method, *(_over_seeds(seeds, key) for key in COLUMNS), *told)
        other = next((name for name in ("nb_depth per label", "nb_depth") if any(by_method[name])), None)
        if other is not None:
            wins = (_wins(by_method["model"], by_method[other], key) for key in COLUMNS)
            yield (
                found.task.experiment,
                n,
                f"seeds in which the model is nearer than {other}",
                *wins,
                *("",) * len(run),
            )


def _values(evaluation: "Evaluation", method: str) -> dict[str, float]:
    """What one evaluation says of a method's cells; {} where it has none."""
    distances = {row.name: row.values for row in evaluation.distribution}.get(method)
    cells = {row.name: row.values for row in evaluation.cells}
    if distances is None:
        return {}
    found = dict(distances)
    mine, real = cells.get(method), cells.get("real")
    if mine is not None and real is not None:
        for key in ("library_median", "library_log_sd"):
            found[key] = _ratio(mine.get(key), real.get(key))
        found["library_ks"] = mine.get("library_ks")
    composition = evaluation.composition
    if composition is not None and method in composition.shares:
        gaps = np.abs(np.array(composition.shares[method]) - np.array(composition.shares["real"]))
        found["share_error"] = float(gaps.max(initial=0.0))
    return {key: value for key, value in found.items() if value is not None}


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or not of else value / of


def _over_seeds(seeds: Sequence[Mapping[str, float]], key: str) -> str:
    """Mean over seeds and, from two up, their standard deviation."""
    digits = COLUMNS[key][1]
    known = np.array([values[key] for values in seeds if key in values])
    if not len(known):
        return MISSING
    spread = f" ± {number(float(known.std(ddof=1)), digits)}" if len(known) > 1 else ""
    return number(float(known.mean()), digits) + spread


def _wins(mine: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], key: str) -> str:
    """Seeds in which the first is nearer to the real cells."""
    pairs = [(a[key], b[key]) for a, b in zip(mine, others, strict=True) if key in a and key in b]
    if not pairs:
        return MISSING
    error = {"ilisi": lambda v: -v, "library_median": _from_one, "library_log_sd": _from_one}.get(key, lambda v: v)
    return f"{sum(error(a) < error(b) for a, b in pairs)} of {len(pairs)}"


def _from_one(ratio: float) -> float:
    return abs(np.log(max(ratio, 1e-9)))
