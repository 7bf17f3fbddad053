"""Pseudobulks of the training cells per context and perturbation: what every effect baseline is fitted on.

K conditions, G genes
"""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.progress import Progress, silent
from experiments.evaluation.cells import Cells, stored_cells
from experiments.evaluation.labels import CONTROL, labels_of, labels_of_contexts

_BLOCK = 4096
RESAMPLED = 1_000
"""Training control cells kept per context for resampling."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingEffects:
    """Mean log expression of every training condition."""

    target_sum: float
    """Counts per cell that expression is scaled to before log1p."""
    index: dict[tuple[str, str], int]
    """(context, perturbation) -> row."""
    mean: np.ndarray
    """(K, G); NaN where no cell of the condition measured the gene."""
    cells: np.ndarray
    """(K,) training cells."""
    controls: dict[str, Cells]
    """Context -> up to RESAMPLED training controls."""
    genes: tuple[str, ...] = ()
    """The panel, in order."""
    context_columns: tuple[str, ...] = ()
    """Columns that a context is made of."""
    context_labels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Context -> its label in each of these columns; of the whole store's contexts."""

    @classmethod
    def read(
        cls, store: Any, split: Any, statistics: Any, *, seed: int = 0, progress: Progress = silent
    ) -> "TrainingEffects":
        """Stream over the training rows once."""
        rows = np.asarray(split.train)
        labels = labels_of(store.obs.iloc[rows], store.columns)
        assert labels is not None  # a store holds its own columns
        target = float(statistics.median_library)
        members = labels.members()
        index = {key: row for row, key in enumerate(members)}
        condition = np.zeros(len(rows), np.int64)
        for key, positions in members.items():
            condition[positions] = index[key]
        total, times = np.zeros((len(index), store.n_genes)), np.zeros((len(index), store.n_genes))
        for start in range(0, len(rows), _BLOCK):
            progress("training pseudobulks", start, len(rows))
            cells = stored_cells(store, rows[start : start + _BLOCK], statistics.mean)
            _accumulate(total, times, cells, condition[start : start + _BLOCK], target)
        progress("training pseudobulks", len(rows), len(rows))
        rng = np.random.default_rng(seed)
        controls = {}
        for (context, perturbation), positions in members.items():
            if perturbation == CONTROL:
                kept = np.sort(rng.permutation(positions)[:RESAMPLED])
                controls[context] = stored_cells(store, rows[kept], statistics.mean)
        return cls(
            target_sum=target,
            index=index,
            mean=np.divide(total, times, out=np.full_like(total, np.nan), where=times > 0),
            cells=np.bincount(condition, minlength=len(index)),
            controls=controls,
            genes=tuple(store.panel.genes),
            context_columns=tuple(store.columns.context),
            context_labels=labels_of_contexts(store.obs, store.columns),
        )

    @property
    def perturbed(self) -> list[tuple[str, str]]:
        """Perturbed training conditions whose context has training controls."""
        return [key for key in self.index if key[1] != CONTROL and (key[0], CONTROL) in self.index]

    def pseudobulk(self, context: str, perturbation: str) -> np.ndarray | None:
        """(G,) training pseudobulk, or None for a condition without training cells."""
        row = self.index.get((context, perturbation))
        return None if row is None else self.mean[row]

    def delta(self, context: str, perturbation: str) -> np.ndarray:
        """(G,) training pseudobulk minus that of the context's controls."""
        return self.mean[self.index[context, perturbation]] - self.mean[self.index[context, CONTROL]]

    def n_cells(self, context: str, perturbation: str) -> int:
        row = self.index.get((context, perturbation))
        return 0 if row is None else int(self.cells[row])


def _accumulate(total: np.ndarray, times: np.ndarray, cells: Cells, condition: np.ndarray, target: float) -> None:
    present, local = np.unique(condition, return_inverse=True)
    one = np.ones(len(local))
    indicator = scipy.sparse.csr_matrix((one, (local, np.arange(len(local)))), shape=(len(present), len(local)))
    total[present] += (indicator @ cells.log_expression(target)).toarray()
    per_source = np.zeros((len(present), len(cells.measured)))
    np.add.at(per_source, (local, cells.source), 1.0)
    times[present] += per_source @ cells.measured
