"""Are generated counts distributed as real ones? Where real counts fall among generated ones of their condition.

n cells, G genes
"""

import dataclasses

import numpy as np

from experiments.evaluation.cells import Cells
from experiments.evaluation.labels import Labels
from experiments.evaluation.results import CalibrationRow

BINS = 10
LEVELS = {"below 0.1": (0.0, 0.1), "0.1 to 1": (0.1, 1.0), "1 to 10": (1.0, 10.0), "above 10": (10.0, np.inf)}
"""Expression levels by mean count per real cell."""
REAL_CELLS, GENERATED_CELLS, GENES = 50, 200, 300
"""Most of a condition's cells a side, and of a level's genes, that are looked at."""
MODEL, REPLICATE = "model", "real vs real"


def calibration_table(
    real: Cells, real_labels: Labels, generated: Cells, labels: Labels | None, rng: np.random.Generator
) -> tuple[CalibrationRow, ...]:
    """Randomised probability-integral-transform histograms, per expression level; () without cells.

    For a real count x and m generated counts of its gene and condition, u = (number below x + v (number equal + 1)) /
    (m + 1) with v uniform: uniform exactly where real and generated counts come from one distribution. Mass at both
    ends says that generated counts vary too little, in the middle too much, on one side that they are off.

    Args:
        real: held-out cells.
        real_labels: of them.
        generated: generated cells.
        labels: of them; None compares all with all.
        rng: of cells, genes and v.

    Returns:
        A row per level for the model, and one of real cells among other real cells of their condition.
    """
    if labels is None:
        pairs = [(np.arange(len(real)), np.arange(len(generated)))]
    else:
        mine, theirs = real_labels.members(), labels.members()
        pairs = [(mine[key], theirs[key]) for key in sorted(mine.keys() & theirs.keys())]
    mean = np.asarray(real.counts.sum(0)).ravel() / np.maximum(real.times_measured, 1)
    measured = real.measured[np.unique(real.source)].all(0)
    found = []
    for level, (low, high) in LEVELS.items():
        genes = rng.permutation(np.flatnonzero(measured & (mean > 0) & (mean >= low) & (mean < high)))[:GENES]
        if not len(genes):
            continue
        tallies = {name: _Tally() for name in (MODEL, REPLICATE)}
        for rows, columns in pairs:
            rows, columns = rng.permutation(rows), rng.permutation(columns)
            dense = real.counts[rows[: REAL_CELLS * 2]][:, genes].toarray()
            tallies[MODEL].add(dense[:REAL_CELLS], generated.counts[columns[:GENERATED_CELLS]][:, genes].toarray(), rng)
            half = len(dense) // 2
            if half:
                tallies[REPLICATE].add(dense[:half], dense[half:], rng)
        found += [tally.row(name, level, len(genes)) for name, tally in tallies.items() if tally.counts.sum()]
    return tuple(found)


@dataclasses.dataclass(kw_only=True)
class _Tally:
    """Histogram of u over cells, genes and conditions."""

    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(BINS))

    def add(self, real: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> None:
        """Place real counts (n, G) among others (m, G)."""
        for gene in range(real.shape[1]):
            column = np.sort(others[:, gene])
            below = np.searchsorted(column, real[:, gene], side="left")
            equal = np.searchsorted(column, real[:, gene], side="right") - below
            u = (below + rng.random(len(below)) * (equal + 1)) / (len(column) + 1)
            self.counts += np.bincount(np.minimum((u * BINS).astype(int), BINS - 1), minlength=BINS)

    def row(self, name: str, level: str, genes: int) -> CalibrationRow:
        shares = self.counts / self.counts.sum()
        return CalibrationRow(
            name=name,
            level=level,
            genes=genes,
            n=int(self.counts.sum()),
            shares=tuple(shares.tolist()),
            error=float(np.abs(np.cumsum(shares) - np.arange(1, BINS + 1) / BINS).max()),
        )
