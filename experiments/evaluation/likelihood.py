"""Proper-likelihood baselines fitted on training cells, in nats per held-out cell and in the model's token space."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import logsumexp

from data_pipelines.progress import Progress, silent
from experiments.evaluation.cells import Cells, Sparse, stored_cells
from experiments.evaluation.extras import extra
from experiments.evaluation.independent import IndependentGenes
from experiments.evaluation.labels import CONTROL, EVERYWHERE, Labels, labels_of
from experiments.evaluation.negative_binomial import DepthNB, depth_grid, fit_group

TRAINING_CELLS = 20_000
"""Grouped baselines are fitted on at most this many training cells, drawn with the seed."""
LABEL_CELLS = 10
"""A label needs this many training cells to have a fit of its own."""
CLUSTERS = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSide:
    """Training cells and statistics that the likelihood baselines are fitted on."""

    cells: Cells
    labels: Labels
    statistics: Any
    independent: IndependentGenes
    nb: DepthNB

    @classmethod
    def read(cls, store: Any, split: Any, statistics: Any, seed: int) -> "TrainingSide":
        """Read the training cells, all or TRAINING_CELLS of them."""
        rows = np.asarray(split.train)
        if len(rows) > TRAINING_CELLS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, TRAINING_CELLS, replace=False))
        cells = stored_cells(store, rows, statistics.mean)
        labels = labels_of(store.obs.iloc[rows], store.columns)
        assert labels is not None  # a store holds its own columns
        size = cells.panel_libraries / statistics.mean.sum()
        return cls(
            cells=cells,
            labels=labels,
            statistics=statistics,
            independent=IndependentGenes.from_histogram(np.asarray(statistics.histogram, np.float64)),
            nb=DepthNB(np.asarray(statistics.mean), np.asarray(statistics.dispersion), depth_grid(size)),
        )

    def fit_nb(self, index: np.ndarray) -> DepthNB:
        """NB x depth on some of the training cells."""
        return fit_group(self.cells.take(index), self.statistics.mean)

    def groups(self, labels: Labels) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Cells of one label, and the training cells to fit on: their condition's, else their context's, else None."""
        conditions = self.labels.members()
        for (context, perturbation), members in labels.members().items():
            same = conditions.get((context, perturbation), np.zeros(0, np.int64))
            if len(same) < LABEL_CELLS:
                same = np.flatnonzero(self.labels.context == context)
            yield members, same if len(same) >= LABEL_CELLS else None

    @property
    def labelled(self) -> bool:
        """Whether there is more than one label to fit apart."""
        return len(self.labels.members()) > 1


def baseline_nats(
    training: TrainingSide, cells: Cells, labels: Labels, *, seed: int = 0, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Nats of every held-out cell under every baseline.

    Args:
        training: what the baselines are fitted on.
        cells: n held-out cells.
        labels: their labels.
        seed: of the clustering.
        progress: told after each baseline.

    Returns:
        Name -> (n,) nats. The names 'per label' are missing where all cells have one label.
    """
    steps = [
        ("independent genes", lambda: training.independent.nats(cells)),
        ("nb_depth", lambda: training.nb.nats(cells)),
        (f"nb_depth x {CLUSTERS} clusters", lambda: _clustered(training, cells, seed)),
    ]
    if training.labelled:
        steps.insert(1, ("independent genes per label", lambda: _independent_per_label(training, cells, labels)))
        steps.insert(3, ("nb_depth per label", lambda: _nb_per_label(training, cells, labels)))
    nats: dict[str, np.ndarray] = {}
    for name, compute in steps:
        progress("likelihood baselines", len(nats), len(steps))
        nats[name] = compute()
    progress("likelihood baselines", len(steps), len(steps))
    return nats


def sample_nb_per_label(training: TrainingSide, labels: Labels, rng: np.random.Generator) -> Sparse:
    """(n, G) counts of NB x depth cells with these labels, in their order."""
    blocks, order = [], []
    for members, same in training.groups(labels):
        fitted = training.nb if same is None else training.fit_nb(same)
        blocks.append(fitted.sample(len(members), rng))
        order.append(members)
    drawn: Sparse = scipy.sparse.vstack(blocks, format="csr")
    return drawn[np.argsort(np.concatenate(order))]


def label_description(columns: Any) -> str:
    """What 'per label' means for a store, in words."""
    context = " x ".join(columns.context) or EVERYWHERE
    if columns.perturbation is None:
        return context
    return (
        f"{context} x {columns.perturbation}, or {context} where the combination has no training cells ({CONTROL}s too)"
    )


def _independent_per_label(training: TrainingSide, cells: Cells, labels: Labels) -> np.ndarray:
    nats = np.zeros(len(cells))
    for members, same in training.groups(labels):
        independent = training.independent
        fitted = independent if same is None else independent.given(training.cells.take(same))
        nats[members] = fitted.nats(cells.take(members))
    return nats


def _nb_per_label(training: TrainingSide, cells: Cells, labels: Labels) -> np.ndarray:
    nats = np.zeros(len(cells))
    for members, same in training.groups(labels):
        fitted = training.nb if same is None else training.fit_nb(same)
        nats[members] = fitted.nats(cells.take(members))
    return nats


def _clustered(training: TrainingSide, cells: Cells, seed: int) -> np.ndarray:
    """A mixture: k-means of the training cells on 30 components of log1p(1e3 x / L), its shares as the prior."""
    k = min(CLUSTERS, len(training.cells))
    expression = training.cells.log_expression(1e3)
    components = min(30, min(expression.shape) - 1)
    reduced = extra("sklearn.decomposition").TruncatedSVD(components, random_state=seed).fit_transform(expression)
    cluster = extra("sklearn.cluster").KMeans(k, n_init=3, random_state=seed).fit_predict(reduced)
    joint = [
        np.log((cluster == j).mean()) - training.fit_nb(np.flatnonzero(cluster == j)).nats(cells) for j in range(k)
    ]
    return -logsumexp(np.stack(joint, 1), axis=1)
