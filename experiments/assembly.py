"""From an experiment and a store's statistics to a model, and from a checkpoint's description back to it."""

import dataclasses
from typing import Any

import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from data_pipelines.statistics import Statistics
from data_pipelines.target_features import TargetTable
from experiments.config_json import from_json, to_json
from experiments.experiment import DataConfig, Experiment
from lingshu_jax.label_terms import LowRankRates
from lingshu_jax.model import TargetFeatures
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import Denoiser, FixedArrays
from lingshu_jax.model.gene_order import lay_out
from lingshu_jax.model.statistics import StartStatistics
from lingshu_jax.training.optimizer import make_optimizer
from lingshu_jax.training.state import ModelParts, model_parts
from lingshu_jax.vocabulary import ConditionVocabulary, GenePanel, LibrarySizeField, NumberField

META_FORMAT = 2


@dataclasses.dataclass(frozen=True, eq=False)
class ModelPlan:
    """What a model is made of, before any array is."""

    experiment: Experiment
    panel: GenePanel
    vocabulary: ConditionVocabulary
    layout: GeneLayout
    store_hash: str
    split_hash: str
    median_library: float
    targets: TargetTable | None = None
    """Features of targets of a new model; in a checkpoint they are among its arrays."""
    controls: tuple[tuple[str, ...], ...] = ()
    """Contexts (labels in field order) that have training controls: only these can be guided against control."""

    def build(self) -> Denoiser:
        """A fresh model; call it under `jax.eval_shape` or `jax.jit`."""
        rngs = nnx.Rngs(params=self.experiment.seed)
        return Denoiser(self.experiment.model, self.layout, self.vocabulary, rngs=rngs)

    def parts(self, mesh: Mesh, statistics: StartStatistics | None = None) -> ModelParts:
        """Structure and fixed arrays on a mesh; without statistics the arrays are zero, to be restored."""
        return model_parts(
            self.build, FixedArrays(self.experiment.model, self.layout, self.vocabulary, statistics), mesh
        )

    def to_json(self) -> dict[str, Any]:
        """The self-contained description that goes into every checkpoint."""
        return {
            "format": META_FORMAT,
            "experiment": to_json(self.experiment),
            "panel": self.panel.to_json(),
            "vocabulary": self.vocabulary.to_json(),
            "layout": self.layout.to_json(),
            "store_hash": self.store_hash,
            "split_hash": self.split_hash,
            "median_library": self.median_library,
            "controls": [list(labels) for labels in self.controls],
        }

    @classmethod
    def from_json(cls, meta: dict[str, Any]) -> "ModelPlan":
        """Read the description of a checkpoint.

        Raises:
            InputError: it is of another version, or not a description.
        """
        if not isinstance(meta, dict):
            raise InputError("the checkpoint's description cannot be read: it is no JSON object.")
        check_format("the checkpoint", meta.get("format"), META_FORMAT, "Train the run again.", oldest=META_FORMAT)
        try:
            experiment = from_json(meta["experiment"])
            # Which attention computes is for each machine to say, not for the one that trained.
            model = dataclasses.replace(experiment.model, attention="auto")
            return cls(
                dataclasses.replace(experiment, model=model),
                GenePanel.from_json(meta["panel"]),
                ConditionVocabulary.from_json(meta["vocabulary"]),
                GeneLayout.from_json(meta["layout"]),
                meta["store_hash"],
                meta["split_hash"],
                meta["median_library"],
                None,
                tuple(tuple(labels) for labels in meta["controls"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise InputError(f"the checkpoint's description cannot be read: {error}.") from error


def plan(
    experiment: Experiment,
    statistics: Statistics,
    targets: TargetTable | None = None,
    coexpressed: np.ndarray | None = None,
) -> ModelPlan:
    """Decide everything about a new model but its arrays.

    Args:
        experiment: its settings.
        statistics: of the training cells.
        targets: features of perturbations' targets, for a model that is told any.
        coexpressed: int (G,), genes in an order of co-expression, for a gene order that follows it.
    """
    offered = ConditionVocabulary((*statistics.vocabulary.fields, statistics.library_size))
    vocabulary = select_fields(offered, experiment.data)
    largest_token = int(np.flatnonzero(statistics.histogram.sum(axis=0))[-1])
    model = experiment.model.with_tokens_in_use(largest_token)
    if targets is not None and isinstance(model.features, TargetFeatures):
        vocabulary = vocabulary.with_unseen(targets.labels)
        features = dataclasses.replace(model.features, size=targets.values.shape[1])
        model = dataclasses.replace(model, features=features)
    experiment = dataclasses.replace(experiment, model=model)
    layout = lay_out(
        model.gene_order, len(statistics.panel), model.genes_per_patch, seed=experiment.seed, coexpressed=coexpressed
    )
    return ModelPlan(
        experiment,
        statistics.panel,
        vocabulary,
        layout,
        statistics.store_hash,
        statistics.split_hash,
        float(statistics.median_library),
        targets,
        contexts_with_controls(statistics),
    )


def start_statistics(statistics: Statistics, plan: ModelPlan, rates: LowRankRates | None = None) -> StartStatistics:
    """What a new model starts from."""
    prior, field, features = statistics.depth_prior(plan.vocabulary), plan.vocabulary.perturbation, None
    if plan.targets is not None and field is not None:
        nothing = np.zeros((field.first_row, plan.targets.values.shape[1]), np.float32)
        features = np.concatenate([nothing, plan.targets.of(field.labels + field.unseen)])
    return StartStatistics(
        statistics.histogram,
        statistics.mean,
        statistics.dispersion,
        prior.mean_effects,
        prior.spread_effects,
        prior.log_variance,
        features,
        rates,
    )


def optimizer_of(experiment: Experiment, vocabulary: ConditionVocabulary) -> optax.GradientTransformation:
    """The optimizer of an experiment on these fields."""
    told = isinstance(experiment.model.features, TargetFeatures)
    return make_optimizer(
        experiment.optimizer,
        experiment.training.steps,
        frozen=experiment.init.freeze,
        perturbation=vocabulary.perturbation if told else None,
    )


def select_fields(vocabulary: ConditionVocabulary, data: DataConfig) -> ConditionVocabulary:
    """The condition fields that an experiment uses."""
    wanted = {
        "category": data.context,
        "perturbation": data.perturbation,
        NumberField.kind: data.numbers,
        LibrarySizeField.kind: data.library_size,
    }
    return ConditionVocabulary(tuple(field for field in vocabulary.fields if wanted[field.kind]))


def contexts_with_controls(statistics: Statistics) -> tuple[tuple[str, ...], ...]:
    """Context labels, in field order, that training control cells have."""
    field = statistics.vocabulary.perturbation
    if field is None:
        return ()
    place = statistics.vocabulary.names.index(field.name)
    found = {
        labels[:place] + labels[place + 1 :]
        for labels, cells in statistics.cells_per_condition.items()
        if cells and field.is_control(labels[place])
    }
    return tuple(sorted(found))
