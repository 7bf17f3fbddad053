"""Scores of one predicted perturbation effect, and their averages with intervals.

G genes, K candidate perturbations, n conditions
"""

import dataclasses

import numpy as np
from scipy.stats import rankdata

from experiments.evaluation.results import Estimate
from lingshu_jax.evaluation.marginals import pearson

DRAWS = 1_000
PDS_CANDIDATES = 10
"""Fewest candidate perturbations that PDS is given for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """What a prediction for one condition is compared with."""

    pseudobulk: np.ndarray
    """(G,) of the condition's real held-out cells."""
    control: np.ndarray
    """(G,) of the half of the context's held-out controls that is kept for the truth."""
    candidates: np.ndarray
    """(K, G) real pseudobulks of all perturbations of the context that PDS ranks among, this one included."""
    own: int
    """The condition's row among the candidates."""
    ranked: np.ndarray
    """(G,) bool: genes that PDS looks at, those that candidates are named after left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Of one prediction."""

    pearson_delta: float
    pearson_residual: float
    mae: float
    pds: np.ndarray | None
    """(K,) PDS that the prediction would have if candidate k were the truth; None with too few candidates."""


def score(prediction: np.ndarray, control: np.ndarray, truth: Truth, mean_effect: np.ndarray | None) -> Scores:
    """Score a predicted pseudobulk (G,) whose effect is taken against `control` (G,)."""
    predicted, real = prediction - control, truth.pseudobulk - truth.control
    residual = float("nan") if mean_effect is None else pearson(predicted - mean_effect, real - mean_effect)
    return Scores(
        pearson_delta=pearson(predicted, real),
        pearson_residual=residual,
        mae=float(np.nanmean(np.abs(prediction - truth.pseudobulk))),
        pds=discrimination(predicted, truth.candidates - truth.control, truth.ranked),
    )


def discrimination(predicted: np.ndarray, candidates: np.ndarray, ranked: np.ndarray) -> np.ndarray | None:
    """PDS of one predicted effect, for each candidate as the truth.

    Candidates are ranked by mean absolute difference of effects, ties share their mean rank; PDS is
    1 - (rank - 1) / (K - 1): 1 for the nearest, 0 for the farthest, .5 by chance exactly.

    Args:
        predicted: (G,) effect.
        candidates: (K, G) real effects.
        ranked: (G,) genes to look at; genes that are NaN anywhere are left out too.

    Returns:
        (K,), or None with fewer than PDS_CANDIDATES candidates.
    """
    if len(candidates) < PDS_CANDIDATES:
        return None
    genes = ranked & np.isfinite(predicted) & np.isfinite(candidates).all(0)
    distances = np.abs(candidates[:, genes] - predicted[genes]).sum(1)
    return 1 - (rankdata(distances) - 1) / (len(candidates) - 1)


def context_average(
    values: np.ndarray, contexts: np.ndarray, perturbations: np.ndarray, rng: np.random.Generator
) -> Estimate:
    """Mean per context, then over contexts; 95 % interval by bootstrap over perturbations (not over cells).

    Args:
        values: (n,) one per condition; NaN is left out.
        contexts: (n,) labels.
        perturbations: (n,) labels; a drawn perturbation brings its conditions in all contexts.
        rng: of the bootstrap.

    Returns:
        The estimate; no interval with a single perturbation, no value without conditions.
    """
    known = np.isfinite(values)
    values, contexts, perturbations = values[known], contexts[known], perturbations[known]
    if not len(values):
        return Estimate()
    value = float(weighted_average(values, contexts, np.ones((1, len(values))))[0])
    names, code = np.unique(perturbations, return_inverse=True)
    if len(names) < 2:
        return Estimate(value=value, n=len(values))
    drawn = bootstrap_weights(len(names), rng)
    low, high = np.quantile(weighted_average(values, contexts, drawn[:, code]), [0.025, 0.975])
    return Estimate(value=value, low=float(low), high=float(high), n=len(values))


def bootstrap_weights(n: int, rng: np.random.Generator) -> np.ndarray:
    """(DRAWS, n) how often each of n perturbations is drawn."""
    return rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)


def weighted_average(values: np.ndarray, contexts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean per context, then over contexts: (D,) for values (n,), contexts (n,) and weights (D, n)."""
    means = []
    for context in np.unique(contexts):
        inside = contexts == context
        total = weights[:, inside].sum(1)
        means.append(
            np.divide(weights[:, inside] @ values[inside], total, out=np.full(len(total), np.nan), where=total > 0)
        )
    return np.nanmean(np.stack(means), axis=0)


def permutation_p(pds: list[np.ndarray], own: list[int], contexts: list[str], rng: np.random.Generator) -> float | None:
    """Share of permutations of the candidates' labels, within contexts, whose mean PDS is at least the observed one.

    Args:
        pds: per condition (K,), as `discrimination` gives it; conditions of one context share K.
        own: per condition the true candidate.
        contexts: per condition its context.
        rng: of the permutations.
    """
    if not pds:
        return None
    observed = np.mean([values[truth] for values, truth in zip(pds, own, strict=True)])
    where = np.array(contexts)
    groups = [np.flatnonzero(where == context) for context in np.unique(where)]
    reached = 0
    for _ in range(DRAWS):
        total = 0.0
        for group in groups:
            label = rng.permutation(len(pds[group[0]]))
            total += sum(pds[i][label[own[i]]] for i in group)
        reached += total / len(pds) >= observed - 1e-12
    return float((1 + reached) / (1 + DRAWS))
