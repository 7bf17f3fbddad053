"""Baselines for perturbation effects: each predicts the pseudobulk of a (context, perturbation) from training cells.

G genes. A prediction is (G,) mean log expression, or None where the baseline does not apply.
"""

import dataclasses
from typing import Protocol

import numpy as np

from experiments.evaluation.labels import CONTROL
from experiments.evaluation.training_effects import TrainingEffects


class Baseline(Protocol):
    """One interface for all: fitted on training pseudobulks, asked for conditions."""

    @property
    def name(self) -> str: ...

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        """Predicted pseudobulk; `n` is the number of cells a sampling baseline averages."""
        ...


def _resampled_control(training: TrainingEffects, context: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
    cells = training.controls.get(context)
    if cells is None:
        return None
    drawn = rng.integers(cells.shape[0], size=max(n, 1))
    mean = np.asarray(cells[drawn].mean(0)).ravel()
    unmeasured = np.isnan(training.mean[training.index[context, CONTROL]])
    return np.where(unmeasured, np.nan, mean)


@dataclasses.dataclass(frozen=True)
class NoChange:
    """n resampled training controls of the context."""

    training: TrainingEffects
    name: str = "no_change"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "NoChange":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        return _resampled_control(self.training, context, n, rng)


@dataclasses.dataclass(frozen=True)
class MeanEffect:
    """Control of the context + one delta for all: the mean training delta per context, averaged over contexts."""

    training: TrainingEffects
    effect: np.ndarray | None
    name: str = "mean_effect"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "MeanEffect":
        return cls(training, mean_effect(training))

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = self.training.pseudobulk(context, CONTROL)
        return None if control is None or self.effect is None else control + self.effect


@dataclasses.dataclass(frozen=True)
class SampledMeanEffect:
    """The same delta on n resampled training controls: the mean effect with the noise of n cells."""

    training: TrainingEffects
    effect: np.ndarray | None
    name: str = "mean_effect (sampled)"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "SampledMeanEffect":
        return cls(training, mean_effect(training))

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = _resampled_control(self.training, context, n, rng)
        return None if control is None or self.effect is None else control + self.effect


@dataclasses.dataclass(frozen=True)
class ContextMean:
    """Mean of the context's training perturbations."""

    training: TrainingEffects
    name: str = "context_mean"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "ContextMean":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        rows = [row for (where, what), row in self.training.index.items() if where == context and what != CONTROL]
        return _mean_over(self.training.mean[rows]) if rows else None


@dataclasses.dataclass(frozen=True)
class PerturbationTransfer:
    """Control of the context + mean delta of the same perturbation over the other contexts."""

    training: TrainingEffects
    name: str = "perturbation_transfer"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "PerturbationTransfer":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = self.training.pseudobulk(context, CONTROL)
        elsewhere = [key for key in self.training.perturbed if key[1] == perturbation and key[0] != context]
        if control is None or not elsewhere:
            return None
        return control + _mean_over(np.stack([self.training.delta(*key) for key in elsewhere]))


@dataclasses.dataclass(frozen=True)
class Additive:
    """Control of the context + a context part + a perturbation part, fitted to all training deltas by least squares."""

    training: TrainingEffects
    contexts: dict[str, np.ndarray]
    perturbations: dict[str, np.ndarray]
    name: str = "additive"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "Additive":
        keys = training.perturbed
        contexts, perturbations = sorted({key[0] for key in keys}), sorted({key[1] for key in keys})
        design = np.zeros((len(keys), len(contexts) + len(perturbations)))
        for row, (context, perturbation) in enumerate(keys):
            design[row, contexts.index(context)] = 1
            design[row, len(contexts) + perturbations.index(perturbation)] = 1
        if not keys:
            return cls(training, {}, {})
        deltas = np.stack([training.delta(*key) for key in keys])
        holes = np.isnan(deltas).any(0)  # a gene that some source did not measure: no least squares for it
        parts = np.linalg.lstsq(design, np.where(holes, 0.0, deltas), rcond=None)[0]
        parts[:, holes] = np.nan
        split = len(contexts)
        return cls(
            training,
            dict(zip(contexts, parts[:split], strict=True)),
            dict(zip(perturbations, parts[split:], strict=True)),
        )

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = self.training.pseudobulk(context, CONTROL)
        if control is None or context not in self.contexts or perturbation not in self.perturbations:
            return None
        return control + self.contexts[context] + self.perturbations[perturbation]


@dataclasses.dataclass(frozen=True)
class TrainingMean:
    """The condition's own training cells, where it was seen in training."""

    training: TrainingEffects
    name: str = "training_mean"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "TrainingMean":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        return self.training.pseudobulk(context, perturbation)


BASELINES = (NoChange, MeanEffect, SampledMeanEffect, ContextMean, PerturbationTransfer, Additive, TrainingMean)


def fit_baselines(training: TrainingEffects) -> list[Baseline]:
    """Every baseline, fitted."""
    return [baseline.fit(training) for baseline in BASELINES]


def mean_effect(training: TrainingEffects) -> np.ndarray | None:
    """(G,) mean over contexts of the mean delta of the context's training perturbations; None without any."""
    by_context: dict[str, list[np.ndarray]] = {}
    for key in training.perturbed:
        by_context.setdefault(key[0], []).append(training.delta(*key))
    if not by_context:
        return None
    return _mean_over(np.stack([_mean_over(np.stack(deltas)) for deltas in by_context.values()]))


def _mean_over(rows: np.ndarray) -> np.ndarray:
    """Mean over rows of the finite values; NaN where there is none."""
    finite = np.isfinite(rows)
    times = finite.sum(0)
    return np.divide(np.where(finite, rows, 0.0).sum(0), times, out=np.full(rows.shape[1], np.nan), where=times > 0)
