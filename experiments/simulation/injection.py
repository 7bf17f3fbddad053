"""Genes that the cells of a request are told before anything is drawn: a prior made into start tokens."""

# C conditions, B cells, G genes

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_pipelines.progress import Progress
from experiments.prior import NoPrior, Prior, TablePrior, table_tokens, training_tokens
from experiments.run_data import run_data
from lingshu_jax.tokens import MASK

if TYPE_CHECKING:
    from experiments.load import LoadedRun


@dataclasses.dataclass(frozen=True, eq=False)
class Injection:
    """Start tokens by condition."""

    prior: Prior
    labels: pd.DataFrame
    """A column per condition field (C rows)."""
    genes: tuple[str, ...]
    """The panel."""
    tokens: np.ndarray | None
    """int32 (C, G), MASK where nothing is told; None where nothing is told at all."""

    def start(self, condition: np.ndarray) -> np.ndarray | None:
        """Start tokens (B, G) of cells of these conditions."""
        return None if self.tokens is None else self.tokens[condition]

    @property
    def numbers(self) -> np.ndarray:
        """int (C,): genes told per condition."""
        return np.zeros(0, int) if self.tokens is None else (self.tokens != MASK).sum(axis=1)

    @property
    def hash(self) -> str:
        """Of all tokens."""
        return "" if self.tokens is None else hashlib.blake2b(self.tokens.tobytes(), digest_size=8).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """What the cells carry."""
        kind = {"kind": type(self.prior).__name__}
        told = self.prior
        settings = {"file": told.path.name} if isinstance(told, TablePrior) else dataclasses.asdict(told)
        return {**kind, **settings, "genes": [int(n) for n in self.numbers], "hash": self.hash}

    def to_json(self) -> dict[str, Any]:
        """Which genes were told under which condition: names once, then their numbers by condition."""
        if self.tokens is None:
            return {}
        told = self.tokens != MASK
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
    """Make a prior's start tokens for conditions (C rows).

    Args:
        run: the run; a training prior opens its store and split.
        prior: which genes are told.
        labels: a column per condition field.
        store: where the store is now; None takes the run's own path.
        progress: told of reading training cells.

    Raises:
        InputError: the table or the store cannot serve.
    """
    genes, tokens = run.plan.panel.genes, None
    if isinstance(prior, TablePrior):
        tokens = table_tokens(prior, labels, run.plan.vocabulary, run.plan.panel)
    elif not isinstance(prior, NoPrior):
        cells, split = run_data(run.folder, store)
        told = {} if progress is None else {"progress": progress}
        tokens = training_tokens(prior, labels, run.plan.vocabulary, cells, split, **told)
    return Injection(prior, labels, genes, tokens)
