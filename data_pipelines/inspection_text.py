"""An inspection in words, for a terminal of 100 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from data_pipelines.inspect import Inspection

_SHOWN = 5
_STORED_BYTES = 1.8
"""Of one expressed (cell, gene) pair in a store, compressed gene position and count."""
_MEMORY_BYTES = 8
"""Of the same as int32 CSR in memory."""


def inspection_lines(found: "Inspection") -> list[str]:
    """The whole report, one string per line."""
    lines = []
    for file in found.files:
        lines.append(f"{file.name}: {file.n_cells:,} cells x {file.n_genes:,} genes ({file.gene_ids})")
        lines.append(f"  obs columns       {', '.join(file.obs_columns) or 'none'}")
        slot = "X" if found.layer is None else found.layer
        lines.append(f"  {slot:<17} {'raw counts (whole, not negative)' if file.fault is None else 'no raw counts'}")
        repeated = len(file.duplicate_genes)
        lines.append(f"  duplicate genes   {repeated or 'none'}{_examples(file.duplicate_genes)}")
    if len(found.files) > 1:
        lines.append(f"together: {found.n_cells:,} cells x {found.n_genes:,} genes (union)")
    if not any(file.fault for file in found.files):
        lines += _count_lines(found)
    lines += _condition_lines(found)
    lines += found.knockdown.lines() if found.knockdown else []
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"fix: {problem}" for problem in found.problems]
    lines.append("ready to ingest" if found.ready else f"not ready to ingest: {len(found.problems)} to fix (above)")
    return lines


def _examples(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def _count_lines(found: "Inspection") -> list[str]:
    entries = int(found.expressed.sum())
    return [
        f"library size        {_spread(found.library)} counts per cell",
        f"expressed genes     {_spread(found.expressed)} per cell, at most {int(found.expressed.max()):,}",
        f"largest count       {int(found.largest):,}",
        f"zeros               {1 - entries / max(1, found.n_cells * found.n_genes):.1%} of all values",
        f"memory as CSR       {_bytes(entries * _MEMORY_BYTES)}",
        f"store on disk       about {_bytes(entries * _STORED_BYTES)}",
    ]


def _spread(values: np.ndarray) -> str:
    low, median, high = np.percentile(values, [5, 50, 95])
    return f"median {median:,.0f} (5-95 %: {low:,.0f} to {high:,.0f})"


def _condition_lines(found: "Inspection") -> list[str]:
    columns = found.columns
    lines = [f"context             {', '.join(columns.context) or 'none'}"]
    if columns.perturbation is None:
        lines.append("perturbation        none (no column has a control label such as non-targeting, ctrl, PBS, DMSO)")
    else:
        lines.append(f"perturbation        {columns.perturbation} (control: {', '.join(columns.control)})")
    lines.append(f"batch               {columns.batch or 'none'}")
    lines += [f"numbers             {', '.join(columns.numbers)}"] if columns.numbers else []
    if not columns.fields:
        return lines
    few = sum(cells < 30 for _, cells in found.conditions)
    lines.append(
        f"conditions          {len(found.conditions):,} of {' x '.join(columns.fields)}; {few:,} with < 30 cells"
    )
    shown = list(found.conditions)
    if len(shown) > 2 * _SHOWN:
        shown = [*shown[:_SHOWN], (("...",), -1), *shown[-_SHOWN:]]
    width = max(len(" | ".join(labels)) for labels, _ in shown)
    for labels, cells in shown:
        name = " | ".join(labels)
        lines.append(f"  {name:<{width}}  {cells:>9,} cells" if cells >= 0 else f"  {name}")
    return lines


def _bytes(n: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
