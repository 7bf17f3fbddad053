"""Held-out bounds beside every likelihood baseline that was fitted on the same training cells."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.real_cells.reading import MISSING, RUN_COLUMNS, Table, interval, number, run_cells

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
        return Table(columns, tuple(self._row(one) for one in found))

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
