"""New cells of perturbations that were seen in training, beside the mean of their own training cells."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.evaluation.results import Estimate
from experiments.real_cells.drawings import dots
from experiments.real_cells.reading import RUN_COLUMNS, Drawing, Table, interval, number, run_cells
from experiments.real_cells.responses import held_out_conditions, not_scored, value_of

if TYPE_CHECKING:
    from experiments.evaluation.results import ConditionRow
    from experiments.real_cells.found import Found
    from experiments.real_cells.task import Task

METHODS = ("model", "training_mean", "mean_effect", "real vs real")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenEffects:
    """Strong perturbations one by one, and the average over all of them."""

    strong: tuple[str, ...]
    """Perturbations with an effect that is large enough to be judged alone."""

    def place(self, task: "Task") -> str:
        return task.experiment

    def table(self, found: "Sequence[Found]") -> Table:
        scores = [f"Pearson-delta: {name.replace('_', ' ')}" for name in METHODS]
        scores += ["model / training mean"]
        scores += [f"less mean effect: {name.replace('_', ' ')}" for name in METHODS]
        scores += [f"PDS: {name.replace('_', ' ')}" for name in METHODS[:3]]
        lines = []
        notes = not_scored([row for one in found for row in held_out_conditions(one)])
        for one in found:
            rows = {row.perturbation: row for row in held_out_conditions(one)}
            lines += [self._row(one, rows[name]) for name in self.strong if name in rows]
            lines += self._average(one)
        columns = ("perturbation", "real cells", *scores, *RUN_COLUMNS)
        return Table(columns, tuple(lines), notes, tuple(map(self._drawing, found)))

    def _drawing(self, found: "Found") -> Drawing:
        rows = sorted(
            (row for row in held_out_conditions(found) if row.scored),
            key=lambda row: -(value_of(row, "pearson_delta", "training_mean") or 0.0),
        )
        methods = {
            name.replace("_", " "): [Estimate(value=value_of(row, "pearson_delta", name)) for row in rows]
            for name in METHODS
        }
        axis = "Pearson-delta on held-out cells"
        png = dots([f"{row.perturbation}, {row.n_real:,} cells" for row in rows], methods, axis)
        return Drawing(name=found.task.experiment, about="Pearson-delta of each knock-out", png=png)

    def _row(self, found: "Found", row: "ConditionRow") -> tuple[str, ...]:
        delta = [value_of(row, "pearson_delta", name) for name in METHODS]
        less = [value_of(row, "pearson_residual", name) for name in METHODS]
        pds = [value_of(row, "pds", name) for name in METHODS[:3]]
        share = None if not delta[0] or not delta[1] else delta[0] / delta[1]
        values = (number(value) for value in (*delta, share, *less, *pds))
        return (row.perturbation, f"{row.n_real:,}", *values, *run_cells(found))

    def _average(self, found: "Found") -> list[tuple[str, ...]]:
        table = found.first.effects
        if table is None:
            return []
        rows = {row.name: row.metrics for row in table.rows}
        scored = [row for row in table.conditions if row.scored]

        def cells(metric: str, names: Sequence[str]) -> list[str]:
            return [interval(rows.get(name, {}).get(metric), 3) for name in names]

        values = (*cells("pearson_delta", METHODS), "", *cells("pearson_residual", METHODS), *cells("pds", METHODS[:3]))
        cells_in_all = sum(row.n_real for row in scored)
        return [(f"mean of all {len(scored)}", f"{cells_in_all:,}", *values, *run_cells(found))]
