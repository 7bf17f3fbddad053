"""Held-out bounds beside every likelihood baseline that was fitted on the same training cells."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.evaluation.results import Estimate
from experiments.real_cells.drawings import dots
from experiments.real_cells.reading import MISSING, RUN_COLUMNS, Drawing, Table, interval, number, run_cells

if TYPE_CHECKING:
    from experiments.real_cells.found import Found
    from experiments.real_cells.task import Task

BASELINES = (
    "nb_depth", "nb_depth per label", "nb_depth x 12 clusters", "independent genes", "independent genes per label",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Nats per held-out cell, a row per task; differences are paired on the same cells."""

    def place(self, task: "Task") -> str:
        return "bounds"

    def table(self, found: "Sequence[Found]") -> Table:
        columns = ("task", "held-out cells", "model", *BASELINES, *RUN_COLUMNS)
        return Table(columns, tuple(self._row(one) for one in found), drawings=(self._drawing(found),))

    def _drawing(self, found: "Sequence[Found]") -> Drawing:
        beside = {name: [_share(one, name) for one in found] for name in BASELINES[:3]}
        axis = "model minus baseline, % of the baseline's nats: below 0 the model wins"
        png = dots([one.task.experiment for one in found], beside, axis)
        return Drawing(name="bounds", about="Model minus baselines, with 95 % intervals", png=png)

    def _row(self, found: "Found") -> tuple[str, ...]:
        rows = {row.name: row for row in found.first.bound}
        model = rows.get("model")
        cells = MISSING if model is None or model.nats.n is None else f"{model.nats.n:,}"
        beside = [
            f"{number(row.nats.value, 1)}: {interval(row.difference, 1)}" if row else MISSING
            for row in map(rows.get, BASELINES)
        ]
        mine = MISSING if model is None else number(model.nats.value, 1)
        return (found.task.experiment, cells, mine, *beside, *run_cells(found))


def _share(found: "Found", name: str) -> "Estimate | None":
    """The paired difference from a baseline in percent of the baseline's own bound."""
    row = next((row for row in found.first.bound if row.name == name), None)
    if row is None or row.difference is None or not row.nats.value:
        return None
    scale = 100 / row.nats.value
    mine = (row.difference.value, row.difference.low, row.difference.high)
    value, low, high = (None if part is None else part * scale for part in mine)
    return Estimate(value=value, low=low, high=high, n=row.difference.n)
