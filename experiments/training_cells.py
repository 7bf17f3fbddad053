"""What the training cells tell a model before it learns; where that is computed and stored first, one process does."""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_pipelines import CellStore, Split, load_statistics
from data_pipelines.gene_order import coexpression_order
from data_pipelines.label_rates import label_rates
from data_pipelines.progress import Progress
from data_pipelines.statistics import Statistics
from data_pipelines.target_features import TargetTable, load_targets
from experiments.assembly import ModelPlan
from experiments.progress import StageProgress
from lingshu_jax.label_terms import LowRankRates
from lingshu_jax.model.config import DenoiserConfig, DepthNB, Features, NoFeatures, RandomOrder
from lingshu_jax.parallel.distributed import lead


@dataclasses.dataclass(frozen=True)
class TrainingCells:
    """The training cells of a split."""

    store: CellStore
    split: Split

    def statistics(self) -> Statistics:
        """Means, dispersions, vocabulary."""
        return _led("statistics", lambda progress: load_statistics(self.store, self.split, progress=progress))

    def targets(self, features: Features) -> TargetTable | None:
        """The target features that a model is told, if any."""
        if isinstance(features, NoFeatures):
            return None
        return _led(
            "target features",
            lambda progress: load_targets(features.source, features.size, self.store, self.split, progress=progress),
        )

    def coexpressed(self, model: DenoiserConfig) -> np.ndarray | None:
        """int32 (G,), genes in an order of co-expression; None for a model whose gene order needs none."""
        if isinstance(model.gene_order, RandomOrder):
            return None
        return _led(
            "gene order",
            lambda progress: coexpression_order(self.store, self.split, group=model.genes_per_patch, progress=progress),
        )

    def label_rates(self, plan: ModelPlan, statistics: Statistics, mean: np.ndarray) -> LowRankRates | None:
        """What labels begin with, relative to mean counts (G,); None for a start without, or without labels."""
        start = plan.experiment.model.start
        if not isinstance(start, DepthNB) or not start.label_rank or not plan.vocabulary.labelled:
            return None

        def load(progress: Progress) -> LowRankRates:
            return label_rates(
                self.store,
                self.split,
                statistics,
                plan.vocabulary,
                rank=start.label_rank,
                mean=mean,
                progress=progress,
            )

        return _led("label rates", load)


def _led[T](what: str, load: Callable[[Progress], T]) -> T:
    def loaded() -> T:
        with StageProgress() as progress:
            return load(progress)

    mine: list[T] = []
    lead(what, lambda: mine.append(loaded()))
    return mine[0] if mine else loaded()
