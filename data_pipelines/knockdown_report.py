"""What a screen's hygiene filters would leave out: shown by `inspect`, off by default in `ingest`."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.ingestion.engine import Local
from data_pipelines.ingestion.knockdown import measure_knockdown
from data_pipelines.ingestion.screen import Screen, choose_cells
from data_pipelines.ingestion.work import chunks_of
from data_pipelines.progress import Progress

if TYPE_CHECKING:
    import pandas

    from data_pipelines.columns import Columns
    from data_pipelines.ingestion.inputs import Input
    from data_pipelines.ingestion.panel import Alignment
    from data_pipelines.ingestion.source import Source
    from lingshu_jax.vocabulary import GenePanel

USUAL = Screen(max_residual=0.3, max_cell_residual=0.5, min_cells=30)
"""The filters that perturbation benchmarks use for knock-down screens."""
_BUDGET = 256 * 2**20
_SHOWN = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnockdownReport:
    """How far down the targets of a screen are, and what the usual filters would make of that."""

    residual: tuple[tuple[str, str, float], ...]
    """(context, perturbation, expression relative to the context's controls), least down first."""
    left_out: dict[str, int]
    """Filter -> cells it would leave out, one filter after the other."""
    cells: int

    def lines(self) -> list[str]:
        """For a terminal."""
        failed = sum(value > (USUAL.max_residual or 0) for *_, value in self.residual)
        worst = ", ".join(f"{target} in {context} {value:.2f}" for context, target, value in self.residual[:_SHOWN])
        return [
            f"targets of knock-down {failed:,} of {len(self.residual):,} judged keep > {USUAL.max_residual} of their "
            "expression (a knock-out may)",
            f"  least down          {worst}",
            f"  usual filters, off  --screen.max-residual {USUAL.max_residual} --screen.max-cell-residual "
            f"{USUAL.max_cell_residual} --screen.min-cells {USUAL.min_cells}",
            f"                      would leave out {sum(self.left_out.values()):,} of {self.cells:,} cells",
        ]


def report_knockdown(
    labels: "pandas.DataFrame",
    columns: "Columns",
    panel: "GenePanel",
    inputs: "Sequence[Input]",
    sources: "Sequence[Source]",
    alignments: "Sequence[Alignment]",
    progress: Progress,
) -> KnockdownReport | None:
    """Measure a screen; None where no perturbation is a gene that the controls express.

    Args:
        labels: obs with labels as text, N rows in input order.
        columns: their roles; there must be a perturbation.
        panel: the genes.
        inputs: what the sources were opened from.
        sources: the same, open.
        alignments: their genes in the panel.
        progress: called as progress(stage, cells done, cells).
    """
    with Local(1).open() as (runner, _):
        found = measure_knockdown(
            labels,
            columns,
            panel,
            inputs,
            alignments,
            chunks_of(sources, _BUDGET),
            budget=_BUDGET,
            runner=runner,
            progress=progress,
        )
    if not found.residual:
        return None
    everyone = np.ones(len(labels), bool)
    _, left_out = choose_cells(USUAL, labels, columns, everyone, found, np.random.default_rng(0))
    residual = sorted((*key, value) for key, value in found.residual.items())
    return KnockdownReport(
        residual=tuple(sorted(residual, key=lambda row: -row[-1])), left_out=left_out, cells=len(labels)
    )
