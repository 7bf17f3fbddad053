"""Perturbations without a training cell, left out one at a time and predicted from features of their targets."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments.real_cells.reading import Table, number
from experiments.real_cells.responses import LeftOut, held_out_conditions, method_name, value_of

if TYPE_CHECKING:
    from experiments.real_cells.found import Found

DRAWS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOutTargets(LeftOut):
    """A row per target; the mean PDS of all is tested by drawing the rank of each at random."""

    refused: tuple[str, ...] = ()
    """Perturbations that cannot be asked for so: their targets are no genes of the panel."""

    def table(self, found: "Sequence[Found]") -> Table:
        table = super().table(found)
        notes = [self._test(found, method) for metric, method in self.pairs() if metric == "pds"]
        if self.refused:
            notes.append(
                f"Not left out, because their targets are no genes of the panel and so have no features (`--unseen "
                f"features` refuses them by name): {', '.join(self.refused)}."
            )
        return dataclasses.replace(table, notes=(*table.notes, *filter(None, notes)))

    def _test(self, found: "Sequence[Found]", method: str) -> str:
        """The mean PDS of a method over all left-out targets, and how often random ranks reach it."""
        pds, candidates = [], []
        for one in found:
            for row in held_out_conditions(one):
                value, table = value_of(row, "pds", method), one.first.effects
                if value is not None and table is not None:
                    pds.append(value)
                    candidates.append(table.candidates[row.context])
        if not pds:
            return ""
        chance = share_of_random_ranks(pds, candidates)
        return (
            f"PDS of {method_name(method)}: mean {number(float(np.mean(pds)))} of {len(pds)} targets, each ranked "
            f"among {_range(candidates)} perturbations; random ranks reach it in a share of {chance:.4f} (p)."
        )


def share_of_random_ranks(pds: Sequence[float], candidates: Sequence[int], *, seed: int = 0) -> float:
    """Share of DRAWS sets of random ranks whose mean PDS is at least the observed one.

    Args:
        pds: one per target.
        candidates: perturbations that each is ranked among, itself included.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.integers(n, size=DRAWS) / (n - 1) for n in candidates]).mean(0)
    return float((1 + (drawn >= np.mean(pds) - 1e-12).sum()) / (1 + DRAWS))


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
