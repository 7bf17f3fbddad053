"""Responses that were left out of training: one run per context, each beside the baselines that know other contexts."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.evaluation.results import Estimate
from experiments.real_cells.drawings import dots
from experiments.real_cells.reading import (
    RUN_COLUMNS,
    Drawing,
    Table,
    differences,
    interval,
    mean_over,
    number,
    run_cells,
)

if TYPE_CHECKING:
    from experiments.evaluation.results import ConditionRow
    from experiments.real_cells.found import Found
    from experiments.real_cells.task import Task

METRICS = {
    "pearson_delta": ("Pearson-delta", 3),
    "pearson_residual": ("less mean effect", 3),
    "mae": ("MAE", 4),
    "energy_distance": ("energy distance", 3),
    "pds": ("PDS", 3),
}
"""Metric -> heading and digits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row per held-out condition, and their mean with the paired difference from each baseline."""

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    """Metric, and the methods that stand beside the model."""

    def place(self, task: "Task") -> str:
        return task.experiment

    def table(self, found: "Sequence[Found]") -> Table:
        heads = tuple(f"{METRICS[metric][0]}: {method_name(method)}" for metric, method in self.pairs())
        rows = [(one, row) for one in found for row in held_out_conditions(one)]
        lines = [self._row(one, row) for one, row in rows]
        scored = [row for _, row in rows if row.scored]
        if len(scored) > 1:
            lines += self._means(scored)
        notes = not_scored([row for _, row in rows])
        columns = ("left out", "real cells", *heads, *RUN_COLUMNS)
        return Table(columns, tuple(lines), notes, self._drawings(found, scored))

    def _drawings(self, found: "Sequence[Found]", rows: "Sequence[ConditionRow]") -> tuple[Drawing, ...]:
        """The first metric, condition by condition."""
        if not rows:
            return ()
        metric, beside = self.columns[0]
        methods = {
            method_name(method): [Estimate(value=value_of(row, metric, method)) for row in rows]
            for method in ("model", *beside)
        }
        name, title = found[0].task.experiment, METRICS[metric][0]
        png = dots([condition_name(row) for row in rows], methods, f"{title} of responses left out of training")
        return (Drawing(name=name, about=f"{title} of each response that was left out", png=png),)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(metric, method) of every column of scores."""
        for metric, beside in self.columns:
            yield from ((metric, method) for method in ("model", *beside))

    def _row(self, found: "Found", row: "ConditionRow") -> tuple[str, ...]:
        values = (number(value_of(row, metric, method), METRICS[metric][1]) for metric, method in self.pairs())
        return (condition_name(row), f"{row.n_real:,}", *values, *run_cells(found))

    def _means(self, rows: "Sequence[ConditionRow]") -> Iterator[tuple[str, ...]]:
        """The mean of every column, and of model minus baseline with its interval over conditions."""
        blank = ("",) * len(RUN_COLUMNS)
        means, minus = [], []
        for metric, method in self.pairs():
            digits = METRICS[metric][1]
            theirs = [value_of(row, metric, method) for row in rows]
            mine = [value_of(row, metric, "model") for row in rows]
            means.append(number(mean_over(theirs).value, digits))
            minus.append("" if method == "model" else interval(mean_over(differences(mine, theirs)), digits))
        yield (f"mean of {len(rows)}", "", *means, *blank)
        yield ("model minus this", "", *minus, *blank)


def held_out_conditions(found: "Found") -> "list[ConditionRow]":
    """Perturbed conditions with real held-out cells, in order of their names."""
    table = found.first.effects
    return [] if table is None else [row for row in table.conditions if row.n_real]


def not_scored(rows: "Sequence[ConditionRow]") -> tuple[str, ...]:
    """The conditions that are listed only, a line per reason."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if not row.scored:
            named.setdefault(row.reason, []).append(condition_name(row))
    return tuple(f"Not scored ({reason}): {'; '.join(names)}." for reason, names in named.items())


def value_of(row: "ConditionRow", metric: str, method: str) -> float | None:
    """One score of one condition; None where the method has none."""
    return row.metrics.get(method, {}).get(metric)


def condition_name(row: "ConditionRow") -> str:
    """The context and the perturbation."""
    return f"{row.context.replace(' | ', ', ')}: {row.perturbation}"


def method_name(method: str) -> str:
    """A method as a heading."""
    return method.replace("perturbation_transfer", "transfer").replace("_", " ")
