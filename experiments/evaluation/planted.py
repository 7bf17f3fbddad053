"""The planted-truth check of a simulated screen: is the sign of every strong planted effect recovered?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evaluation.baselines import fit_baselines
from experiments.evaluation.cells import stored_cells
from experiments.evaluation.effects import MODEL, REPLICATE, Generated, Hidden, Prediction
from experiments.evaluation.held_out import Condition
from experiments.evaluation.labels import CONTROL, labels_of
from experiments.evaluation.results import Estimate, PlantedRow
from experiments.evaluation.scores import context_average
from experiments.evaluation.training_effects import TrainingEffects

STRONG = 1.0
"""Smallest absolute log2 fold change of a strong effect."""
EXPECTED_COUNT = 0.5
"""A gene is looked at where a control cell of median depth is expected to have this many counts of it."""


def planted_recovery(
    store: Any,
    split: Any,
    statistics: Any,
    training: TrainingEffects,
    generated: Generated,
    *,
    part: str,
    seed: int,
    hidden: Hidden | None = None,
) -> tuple[PlantedRow, ...]:
    """Share of strong planted effects whose predicted delta has the planted sign, for every method.

    Looked at are the generated conditions that have held-out cells, at every gene with |log2 fold change| >= STRONG
    and an expected count >= EXPECTED_COUNT, the target itself included. Deltas are taken against the pseudobulk of the
    context's *training* controls, the same for all methods: the truth is known here and needs no controls of its own.
    The row `real vs real` is that of the real held-out cells: what their number allows. Effects at genes that are
    `hidden` in a condition are not looked at.
    """
    rng = np.random.default_rng(seed)
    truth = store.planted_truth
    rows = np.asarray(getattr(split, part))
    labels = labels_of(store.obs.iloc[rows], store.columns)
    assert truth is not None and labels is not None
    members = labels.members()
    strong = {
        key: effects
        for key in sorted(generated.members.keys() & members.keys())
        if key[1] != CONTROL and (effects := _strong(truth, *key)) is not None
    }

    for key, effects in strong.items() if hidden else ():
        left_out = hidden(key) if hidden else None
        strong[key] = effects if left_out is None else np.where(left_out, 0.0, effects)

    def real(context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        del n, rng
        cells = stored_cells(store, rows[members[context, perturbation]], statistics.mean)
        return cells.pseudobulk(training.target_sum)

    methods: dict[str, Prediction] = {MODEL: generated.predict}
    methods |= {baseline.name: baseline.predict for baseline in fit_baselines(training)}
    methods[REPLICATE] = real
    found = [_recovery(name, predict, strong, training, generated, rng) for name, predict in methods.items()]
    return tuple(row for row in found if row is not None)


def _strong(truth: Mapping[str, Any], context: str, perturbation: str) -> np.ndarray | None:
    """(G,) planted log2 fold changes of one condition, 0 where not strong; None where none was planted."""
    contexts = [str(name) for name in truth["contexts"]]
    perturbations = [str(name) for name in truth["perturbations"]]
    if context not in contexts or perturbation not in perturbations:
        return None
    where = contexts.index(context)
    effect = np.asarray(truth["log2_fold_change"])[where, perturbations.index(perturbation)]
    seen = np.asarray(truth["baseline_mean"])[where] >= EXPECTED_COUNT
    return np.where(seen & (np.abs(effect) >= STRONG), effect, 0.0)


def _recovery(
    name: str,
    predict: Prediction,
    strong: dict[Condition, np.ndarray],
    training: TrainingEffects,
    generated: Generated,
    rng: np.random.Generator,
) -> PlantedRow | None:
    right: dict[Condition, np.ndarray] = {}
    unpredicted = 0
    for condition, effect in strong.items():
        genes = np.flatnonzero(effect)
        prediction = predict(*condition, generated.n(condition), rng)
        control = training.pseudobulk(condition[0], CONTROL)
        if not len(genes) or prediction is None or control is None:
            unpredicted += len(genes)
            right[condition] = np.zeros(len(genes), bool)
            continue
        delta = (prediction - control)[genes]
        unpredicted += int((~(np.abs(delta) > 0)).sum())
        right[condition] = np.sign(delta) == np.sign(effect[genes])
    hits = np.concatenate(list(right.values())) if right else np.zeros(0)
    if not len(hits) or unpredicted == len(hits):
        return None
    # One draw of the bootstrap takes a perturbation with all its effects, as everywhere.
    codes = np.concatenate([[key[1]] * len(values) for key, values in right.items()])
    share = context_average(hits.astype(float), np.full(len(hits), "all"), codes, rng)
    return PlantedRow(
        name=name,
        share=Estimate(value=share.value, low=share.low, high=share.high, n=len(right)),
        effects=len(hits),
        unpredicted=unpredicted,
    )
