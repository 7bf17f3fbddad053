"""Scores of the field's evaluator over contexts, their intervals, and their average relative to a baseline.

n conditions, D bootstrap draws
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from experiments.evaluation.cell_eval import LOWER_IS_BETTER, Found
from experiments.evaluation.results import ChallengeRow, Estimate
from experiments.evaluation.scores import bootstrap_weights, context_average, weighted_average

WHOLE = frozenset({"Spearman #DEG", "expression MSE"})
"""Columns with one value per context and none per perturbation."""

Relative = Callable[[str, np.ndarray, np.ndarray], np.ndarray]
"""(column, values of a method, values of the baseline) -> scores; NaN where the baseline leaves no room."""


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What one method reached, context by context."""

    name: str
    found: dict[str, list[Found]] = dataclasses.field(default_factory=dict)
    """Context -> what was found there."""
    cells: list[int] = dataclasses.field(default_factory=list)
    de_cells: list[int] = dataclasses.field(default_factory=list)
    conditions: int = 0

    def add(self, context: str, found: Found) -> None:
        self.found.setdefault(context, []).append(found)

    def has(self, column: str) -> bool:
        return any(column in found.whole for parts in self.found.values() for found in parts)

    def values(self, column: str) -> dict[tuple[str, str], float]:
        """(context, perturbation) -> value; of a whole column (context, '') -> value."""
        values: dict[tuple[str, str], float] = {}
        for context, parts in self.found.items():
            for found in (part for part in parts if column in part.whole):
                if column in WHOLE:
                    values[context, ""] = found.whole[column]
                else:
                    values |= {(context, name): value for name, value in found.by_perturbation[column].items()}
        return values

    def row(self, columns: tuple[str, ...], rng: np.random.Generator) -> ChallengeRow:
        """Everything but the average."""
        metrics = {}
        for column in columns:
            values = self.values(column)
            keys = sorted(values)
            found = np.array([values[key] for key in keys])
            contexts, names = np.array([key[0] for key in keys]), np.array([key[1] for key in keys])
            if self.has(column):
                metrics[column] = context_average(found, contexts, names, rng)
        return ChallengeRow(
            name=self.name,
            metrics=metrics,
            cells=int(np.median(self.cells)) if self.cells else None,
            de_cells=int(np.median(self.de_cells)) if self.de_cells else None,
            conditions=self.conditions,
        )


def clipped(column: str, values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """The paper's rule: (u - b) / (1 - b), for errors 1 - u / b; never below 0, and 0 where undefined."""
    with np.errstate(all="ignore"):
        score = 1 - values / baseline if column in LOWER_IS_BETTER else (values - baseline) / (1 - baseline)
    return np.maximum(np.nan_to_num(score, nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def average_score(
    tally: Tally, baseline: Tally, columns: tuple[str, ...], relative: Relative, rng: np.random.Generator
) -> Estimate:
    """Mean over columns of scores relative to the baseline on the same conditions.

    The interval is by bootstrap over perturbations, where a draw moves method and baseline alike; columns with one
    value per context do not move.

    Returns:
        The estimate; no value where the method lacks a column, or no column is given.
    """
    if not columns or not all(tally.has(column) and baseline.has(column) for column in columns):
        return Estimate()
    keys = {column: sorted(tally.values(column).keys() & baseline.values(column).keys()) for column in columns}
    names = sorted({key[1] for column in columns for key in keys[column]} - {""})
    code = {name: i for i, name in enumerate(names)} | {"": len(names)}
    drawn = np.concatenate([np.ones((1, len(names))), bootstrap_weights(len(names), rng)]) if names else np.ones((1, 0))
    drawn = np.concatenate([drawn, np.ones((len(drawn), 1))], axis=1)
    scores = []
    for column in columns:
        weights = drawn[:, [code[key[1]] for key in keys[column]]]
        contexts = np.array([key[0] for key in keys[column]])
        mine, theirs = (_averages(side.values(column), keys[column], contexts, weights) for side in (tally, baseline))
        scores.append(relative(column, mine, theirs))
    whole = np.stack(scores)
    kept = whole[np.isfinite(whole[:, 0])]
    if not len(kept):
        return Estimate()
    draws = np.nanmean(kept, axis=0)
    value = float(draws[0])
    if len(names) < 2:
        return Estimate(value=value, n=len(names))
    low, high = np.nanquantile(draws[1:], [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high), n=len(names))


def _averages(
    values: dict[tuple[str, str], float], keys: list[tuple[str, str]], contexts: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(D,) averages over contexts; NaN values are left out."""
    found = np.array([values[key] for key in keys])
    known = np.isfinite(found)
    if not known.any():
        return np.full(len(weights), np.nan)
    return weighted_average(found[known], contexts[known], weights[:, known])
