"""Baselines for perturbation effects: each predicts a (context, perturbation) from training cells.

G genes. A prediction is (G,) mean log expression, or cells that are drawn around it; None where a baseline does not
apply.
"""

import dataclasses
from typing import Protocol

import numpy as np

from experiments.evaluation.cells import Cells
from experiments.evaluation.draws import cells_around
from experiments.evaluation.labels import CONTROL
from experiments.evaluation.ridge import RidgeMap, ridge_over_contexts
from experiments.evaluation.training_effects import TrainingEffects


class Baseline(Protocol):
    """One interface for all: fitted on training pseudobulks, asked for conditions."""

    @property
    def name(self) -> str: ...

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        """Predicted pseudobulk; `n` is the number of cells a sampling baseline averages."""
        ...

    def sample(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> Cells | None:
        """n cells: resampled training controls of the context, moved to the predicted pseudobulk."""
        ...


class _Drawn:
    """Cells of a baseline that predicts a pseudobulk."""

    training: TrainingEffects

    def sample(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> Cells | None:
        training: TrainingEffects = self.training
        target = self.centre(context, perturbation)
        control = training.pseudobulk(context, CONTROL)
        if target is None or control is None:
            return None
        return cells_around(target, training.controls[context], control, n, training.target_sum, rng)

    def centre(self, context: str, perturbation: str) -> np.ndarray | None:
        """(G,) pseudobulk that cells are drawn around."""
        return self.predict(context, perturbation, 1, np.random.default_rng(0))

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        raise NotImplementedError


def _resampled_control(training: TrainingEffects, context: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
    cells = training.controls.get(context)
    if cells is None:
        return None
    drawn = cells.take(rng.integers(len(cells), size=max(n, 1)))
    mean = np.asarray(drawn.log_expression(training.target_sum).mean(0)).ravel()
    unmeasured = np.isnan(training.mean[training.index[context, CONTROL]])
    return np.where(unmeasured, np.nan, mean)


@dataclasses.dataclass(frozen=True)
class NoChange(_Drawn):
    """n resampled training controls of the context."""

    training: TrainingEffects
    name: str = "no_change"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "NoChange":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        return _resampled_control(self.training, context, n, rng)

    def centre(self, context: str, perturbation: str) -> np.ndarray | None:
        return self.training.pseudobulk(context, CONTROL)


@dataclasses.dataclass(frozen=True)
class MeanEffect(_Drawn):
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
class SampledMeanEffect(_Drawn):
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

    def centre(self, context: str, perturbation: str) -> np.ndarray | None:
        return MeanEffect(self.training, self.effect).centre(context, perturbation)


@dataclasses.dataclass(frozen=True)
class ContextMean(_Drawn):
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
class PerturbationTransfer(_Drawn):
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
class TransferWithin(_Drawn):
    """Control of the context + mean delta of the same perturbation over the other contexts with the same label in one
    column: the same cell type of other donors."""

    training: TrainingEffects
    column: str

    @property
    def name(self) -> str:
        return transfer_within(self.column)

    @classmethod
    def fit_all(cls, training: TrainingEffects) -> "list[TransferWithin]":
        """One per context column; none where there is a single one, whose labels no two contexts share."""
        columns = training.context_columns
        return [cls(training, column) for column in columns] if len(columns) > 1 else []

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = self.training.pseudobulk(context, CONTROL)
        alike = [
            key
            for key in self.training.perturbed
            if key[1] == perturbation and key[0] != context and self._label(key[0]) == self._label(context)
        ]
        if control is None or not alike:
            return None
        return control + _mean_over(np.stack([self.training.delta(*key) for key in alike]))

    def _label(self, context: str) -> str | None:
        labels = self.training.context_labels.get(context)
        return None if labels is None else labels[self.training.context_columns.index(self.column)]


@dataclasses.dataclass(frozen=True)
class Additive(_Drawn):
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
class TrainingMean(_Drawn):
    """The condition's own training cells, where it was seen in training."""

    training: TrainingEffects
    name: str = "training_mean"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "TrainingMean":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        return self.training.pseudobulk(context, perturbation)


@dataclasses.dataclass(frozen=True)
class RidgePCA(_Drawn):
    """Control of the context + a linear map of the targets' places among principal components of genes."""

    training: TrainingEffects
    effects: RidgeMap | None
    name: str = "ridge_pca"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "RidgePCA":
        by_perturbation: dict[str, list[np.ndarray]] = {}
        for key in training.perturbed:
            by_perturbation.setdefault(key[1], []).append(training.delta(*key))
        deltas = {name: _mean_over(np.stack(found)) for name, found in by_perturbation.items()}
        return cls(training, RidgeMap.fit(deltas, training.genes))

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        control = self.training.pseudobulk(context, CONTROL)
        effect = None if self.effects is None else self.effects.effect(perturbation)
        return None if control is None or effect is None else control + effect


@dataclasses.dataclass(frozen=True)
class RidgeContexts(_Drawn):
    """Control of the context + a linear map of it, fitted to the same perturbation's deltas in the other contexts."""

    training: TrainingEffects
    name: str = "ridge_contexts"

    @classmethod
    def fit(cls, training: TrainingEffects) -> "RidgeContexts":
        return cls(training)

    def predict(self, context: str, perturbation: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
        training = self.training
        control = training.pseudobulk(context, CONTROL)
        elsewhere = [key for key in training.perturbed if key[1] == perturbation and key[0] != context]
        if control is None or len(elsewhere) < 2:
            return None
        controls = np.stack([training.mean[training.index[key[0], CONTROL]] for key in elsewhere])
        deltas = np.stack([training.delta(*key) for key in elsewhere])
        return control + ridge_over_contexts(controls, deltas, control)


BASELINES = (
    NoChange, MeanEffect, SampledMeanEffect, ContextMean, PerturbationTransfer, Additive, RidgePCA, RidgeContexts,
    TrainingMean,
)  # fmt: skip


def transfer_within(column: str) -> str:
    """What `TransferWithin` of a context column is called."""
    return f"perturbation_transfer (same {column})"


def fit_baselines(training: TrainingEffects) -> list[Baseline]:
    """Every baseline, fitted."""
    return [*(baseline.fit(training) for baseline in BASELINES), *TransferWithin.fit_all(training)]


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
