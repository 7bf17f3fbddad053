"""Perturbation effects of generated cells beside baselines and the replicate ceiling, per held-out condition.

G genes
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines.progress import Progress, silent
from experiments.evaluation.baselines import fit_baselines, mean_effect
from experiments.evaluation.cells import Cells
from experiments.evaluation.cloud import cloud_distances
from experiments.evaluation.held_out import Condition, HeldOut, reason_not_scored
from experiments.evaluation.labels import CONTROL, Labels
from experiments.evaluation.results import ConditionRow, EffectRow, EffectTable, Estimate
from experiments.evaluation.scores import Scores, context_average, permutation_p, score
from experiments.evaluation.training_effects import TrainingEffects

MODEL = "model"
OWN_CONTROLS = "model (generated controls)"
REPLICATE = "real vs real"
REPLICATES = 5
METRICS = ("pearson_delta", "pearson_residual", "pds", "mae", "energy_distance", "mmd")
PICTURED = 6

Prediction = Callable[[str, str, int, np.random.Generator], np.ndarray | None]
Hidden = Callable[[Condition], np.ndarray | None]
"""Genes, bool (G,), that count for nothing in a condition; None: all count."""


def _all_count(condition: Condition) -> np.ndarray | None:
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated:
    """The generated cells by condition."""

    cells: Cells
    members: dict[Condition, np.ndarray]
    target_sum: float

    @classmethod
    def of(cls, cells: Cells, labels: Labels, target_sum: float) -> "Generated":
        return cls(cells=cells, members=labels.members(), target_sum=target_sum)

    def n(self, condition: Condition) -> int:
        return len(self.members.get(condition, ()))

    def take(self, condition: Condition) -> Cells:
        return self.cells.take(self.members[condition])

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        """Pseudobulk of all generated cells of a condition; None without any."""
        del n, rng  # it holds its cells already
        condition = (context, perturbation)
        return self.take(condition).pseudobulk(self.target_sum) if self.n(condition) else None


@dataclasses.dataclass(kw_only=True)
class _Tally:
    """Scores of one method, condition by condition."""

    values: dict[Condition, dict[str, float]] = dataclasses.field(default_factory=dict)
    pds: list[np.ndarray] = dataclasses.field(default_factory=list)
    own: list[int] = dataclasses.field(default_factory=list)
    contexts: list[str] = dataclasses.field(default_factory=list)

    def add(self, condition: Condition, scores: Scores, own: int) -> None:
        found = {name: getattr(scores, name) for name in ("pearson_delta", "pearson_residual", "mae")}
        if scores.pds is not None:
            found["pds"] = float(scores.pds[own])
            self.pds.append(scores.pds)
            self.own.append(own)
            self.contexts.append(condition[0])
        self.values[condition] = found


def evaluate_effects(
    held_out: HeldOut,
    training: TrainingEffects,
    generated: Generated,
    *,
    seed: int,
    hidden: Hidden = _all_count,
    progress: Progress = silent,
) -> tuple[EffectTable, dict[str, np.ndarray], list[Condition]]:
    """Score generated cells and baselines on the held-out conditions of one part of a split.

    Args:
        store, split, statistics, training, generated, part, seed, progress: as for `evaluate`.
        hidden: genes of each condition that no score looks at.

    Returns:
        The table, the arrays `delta_real` and `delta_model` (K, G) of a few conditions, and those conditions.
    """
    rng = np.random.default_rng(seed)
    shared = mean_effect(training)
    methods: dict[str, Prediction] = {MODEL: generated.predict}
    baselines = fit_baselines(training)
    methods |= {baseline.name: baseline.predict for baseline in baselines}
    tallies = {name: _Tally() for name in (MODEL, OWN_CONTROLS, *list(methods)[1:], REPLICATE)}
    scored = [key for key in held_out.cells if not reason_not_scored(key, held_out, generated.n(key))]
    pictures: list[tuple[float, Condition, np.ndarray, np.ndarray]] = []
    for done, condition in enumerate(scored):
        progress("perturbation effects", done, len(scored))
        left_out = hidden(condition)
        predicted, real = _score_condition(condition, held_out, generated, methods, tallies, shared, rng, left_out)
        pictures.append((float(np.nansum(real**2)), condition, real, predicted))
        for name, values in cloud_distances(held_out, generated, baselines, condition, rng, left_out).items():
            tallies[name].values[condition] |= values
    progress("perturbation effects", len(scored), len(scored))
    conditions = _condition_rows(held_out, generated, training, tallies)
    chosen = sorted(pictures, key=lambda entry: -entry[0])[:PICTURED]
    arrays = {
        "delta_real": np.array([real for _, _, real, _ in chosen], np.float32),
        "delta_model": np.array([predicted for _, _, _, predicted in chosen], np.float32),
    }
    return _table(tallies, conditions, held_out, rng), arrays, [condition for _, condition, _, _ in chosen]


def _score_condition(
    condition: Condition,
    held_out: HeldOut,
    generated: Generated,
    methods: dict[str, Prediction],
    tallies: dict[str, _Tally],
    shared: np.ndarray | None,
    rng: np.random.Generator,
    left_out: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the tallies with one condition; returns the model's and the real delta."""
    truth = held_out.truth(condition)
    control = held_out.contexts[condition[0]].prediction_controls.pseudobulk(held_out.target_sum)
    n = generated.n(condition)
    predictions = {name: predict(*condition, n, rng) for name, predict in methods.items()}
    for name, prediction in predictions.items():
        if prediction is not None:
            tallies[name].add(condition, score(_without(left_out, prediction), control, truth, shared), truth.own)
    model = predictions[MODEL]
    assert model is not None  # only conditions with generated cells come here
    if generated.n((condition[0], CONTROL)) >= held_out.fewest.controls:
        own = generated.take((condition[0], CONTROL)).pseudobulk(generated.target_sum)
        tallies[OWN_CONTROLS].add(condition, score(_without(left_out, model), own, truth, shared), truth.own)
    _score_replicates(condition, held_out, tallies[REPLICATE], shared, rng, left_out)
    return model - control, truth.pseudobulk - truth.control


def _without(left_out: np.ndarray | None, prediction: np.ndarray) -> np.ndarray:
    """A prediction (G,) that says nothing (NaN) of genes that are left out: every score passes over them."""
    return prediction if left_out is None else np.where(left_out, np.nan, prediction)


def _score_replicates(
    condition: Condition,
    held_out: HeldOut,
    tally: _Tally,
    shared: np.ndarray | None,
    rng: np.random.Generator,
    left_out: np.ndarray | None,
) -> None:
    found: list[Scores] = []
    own = 0
    for _ in range(REPLICATES):
        prediction, control, truth = held_out.replicates(condition, rng)
        found.append(score(_without(left_out, prediction), control, truth, shared))
        own = truth.own
    pds = [scores.pds for scores in found if scores.pds is not None]
    average = Scores(
        pearson_delta=float(np.mean([scores.pearson_delta for scores in found])),
        pearson_residual=float(np.mean([scores.pearson_residual for scores in found])),
        mae=float(np.mean([scores.mae for scores in found])),
        pds=np.mean(pds, axis=0) if pds else None,
    )
    tally.add(condition, average, own)


def _condition_rows(
    held_out: HeldOut, generated: Generated, training: TrainingEffects, tallies: dict[str, _Tally]
) -> tuple[ConditionRow, ...]:
    asked = {key for key in generated.members if key[1] != CONTROL}
    rows = []
    for key in sorted(asked | held_out.n_real.keys()):
        reason = reason_not_scored(key, held_out, generated.n(key))
        rows.append(
            ConditionRow(
                context=key[0],
                perturbation=key[1],
                n_real=held_out.n_real.get(key, 0),
                n_generated=generated.n(key),
                n_training=training.n_cells(*key),
                scored=not reason,
                reason=reason,
                metrics={name: dict(tally.values[key]) for name, tally in tallies.items() if key in tally.values},
            )
        )
    return tuple(rows)


def _table(
    tallies: dict[str, _Tally], conditions: tuple[ConditionRow, ...], held_out: HeldOut, rng: np.random.Generator
) -> EffectTable:
    replicate = _average(tallies[REPLICATE].values, rng, "pearson_delta").value
    ceiling = None if replicate is None or replicate <= 0 else float(np.sqrt(2 * replicate / (1 + replicate)))
    rows = []
    for name, tally in tallies.items():
        if not tally.values:
            continue
        metrics = {metric: _average(tally.values, rng, metric) for metric in METRICS}
        reached = metrics["pearson_delta"].value
        rows.append(
            EffectRow(
                name=name,
                metrics=metrics,
                minus_mean_effect=_differences(tally, tallies["mean_effect"], rng),
                minus_transfer=_differences(tally, tallies["perturbation_transfer"], rng),
                pds_p=permutation_p(tally.pds, tally.own, tally.contexts, rng),
                above_ceiling=ceiling is not None and reached is not None and name != REPLICATE and reached > ceiling,
            )
        )
    return EffectTable(
        rows=tuple(rows),
        conditions=conditions,
        candidates={context: len(side.candidates) for context, side in held_out.contexts.items()},
        controls={
            context: (len(side.prediction_controls), len(side.truth_controls))
            for context, side in held_out.contexts.items()
        },
        ceiling=ceiling,
        fewest_cells=held_out.fewest.cells,
        fewest_controls=held_out.fewest.controls,
    )


def _average(values: dict[Condition, dict[str, float]], rng: np.random.Generator, metric: str) -> Estimate:
    keys = sorted(values)
    found = np.array([values[key].get(metric, np.nan) for key in keys])
    return context_average(found, np.array([key[0] for key in keys]), np.array([key[1] for key in keys]), rng)


def _differences(tally: _Tally, other: _Tally, rng: np.random.Generator) -> dict[str, Estimate]:
    """Per metric, paired on the conditions that both have."""
    if tally is other or not other.values:
        return {}
    both = {
        key: {m: tally.values[key].get(m, np.nan) - other.values[key].get(m, np.nan) for m in METRICS}
        for key in tally.values.keys() & other.values.keys()
    }
    found = {metric: _average(both, rng, metric) for metric in METRICS}
    return {metric: estimate for metric, estimate in found.items() if estimate.value is not None}
