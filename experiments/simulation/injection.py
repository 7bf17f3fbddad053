"""Genes that the cells of a request are told before anything is drawn: a prior made into counts."""

# C conditions, B cells, G genes

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.progress import Progress
from experiments.prior import NOT_TOLD, NoPrior, Prior, TablePrior, table_counts, training_counts
from experiments.run_data import run_data
from lingshu_jax.tokens import MASK, encode_counts

if TYPE_CHECKING:
    from experiments.load import LoadedRun


@dataclasses.dataclass(frozen=True, eq=False)
class Injection:
    """Told counts by condition."""

    prior: Prior
    labels: pd.DataFrame
    """A column per condition field (C rows)."""
    genes: tuple[str, ...]
    """The panel."""
    counts: np.ndarray | None
    """int32 (C, G), NOT_TOLD where nothing is told; None where nothing is told at all."""

    def start(self, condition: np.ndarray) -> np.ndarray | None:
        """Start tokens (B, G) of cells of these conditions."""
        if self.counts is None:
            return None
        told = self.counts[condition]
        return np.where(told == NOT_TOLD, MASK, encode_counts(np.maximum(told, 0)).astype(np.int32))

    def kept(self, cells: Any, condition: np.ndarray) -> Any:
        """Drawn cells (B, G), CSR, with the told counts as they were told: a token holds several counts above 99."""
        if self.counts is None:
            return cells
        told = self.counts[condition]
        return scipy.sparse.csr_matrix(np.where(told == NOT_TOLD, cells.toarray(), told).astype(np.int32))

    @property
    def numbers(self) -> np.ndarray:
        """int (C,): genes told per condition."""
        return np.zeros(0, int) if self.counts is None else (self.counts != NOT_TOLD).sum(axis=1)

    @property
    def hash(self) -> str:
        """Of all counts."""
        return "" if self.counts is None else hashlib.blake2b(self.counts.tobytes(), digest_size=8).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """What the cells carry."""
        kind = {"kind": type(self.prior).__name__}
        told = self.prior
        settings = {"file": told.path.name} if isinstance(told, TablePrior) else dataclasses.asdict(told)
        return {**kind, **settings, "genes": [int(n) for n in self.numbers], "hash": self.hash}

    def to_json(self) -> dict[str, Any]:
        """Which genes were told under which condition: names once, then their numbers by condition."""
        if self.counts is None:
            return {}
        told = self.counts != NOT_TOLD
        union = np.flatnonzero(told.any(axis=0))
        rows = zip(self.labels.to_dict("records"), told[:, union], strict=True)
        return {
            "genes": [self.genes[i] for i in union],
            "conditions": [{"labels": labels, "genes": np.flatnonzero(mine).tolist()} for labels, mine in rows],
        }

    def __str__(self) -> str:
        """One line: how many genes were told."""
        numbers = self.numbers
        if not len(numbers):
            return "no genes injected"
        return f"{numbers.min()} to {numbers.max()} genes injected per condition ({len(numbers)} conditions)"


def inject(
    run: "LoadedRun", prior: Prior, labels: pd.DataFrame, store: Any = None, progress: Progress | None = None
) -> Injection:
    """Make a prior's told counts for conditions (C rows).

    Args:
        run: the run; a training prior opens its store and split.
        prior: which genes are told.
        labels: a column per condition field.
        store: where the store is now; None takes the run's own path.
        progress: told of reading training cells.

    Raises:
        InputError: the table or the store cannot serve.
    """
    genes, counts = run.plan.panel.genes, None
    if isinstance(prior, TablePrior):
        counts = table_counts(prior, labels, run.plan.vocabulary, run.plan.panel)
    elif not isinstance(prior, NoPrior):
        cells, split = run_data(run.folder, store)
        told = {} if progress is None else {"progress": progress}
        counts = training_counts(prior, labels, run.plan.vocabulary, cells, split, **told)
    return Injection(prior, labels, genes, counts)
