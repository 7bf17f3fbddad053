"""Genes that generated cells were told before they were drawn: what became of them, and which they are.

Whoever is told a gene has not predicted it: effects are scored with these genes and without them.

n cells, G genes
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evaluation.cells import Sparse, stored_cells
from experiments.evaluation.effects import Generated
from experiments.evaluation.held_out import Condition
from experiments.evaluation.labels import labels_of
from experiments.evaluation.results import InjectedGene
from experiments.evaluation.training_effects import TrainingEffects


@dataclasses.dataclass(frozen=True)
class Injected:
    """Injected genes by condition."""

    masks: dict[Condition, np.ndarray]
    """bool (G,)."""

    @classmethod
    def of(cls, provenance: Mapping[str, Any], columns: Any, genes: tuple[str, ...]) -> "Injected | None":
        """What the sampler wrote about them; None where nothing was injected."""
        import pandas

        told = provenance.get("injected", {})
        if not told.get("genes"):
            return None
        labels = labels_of(pandas.DataFrame([entry["labels"] for entry in told["conditions"]]), columns)
        if labels is None:
            return None
        places = {gene: i for i, gene in enumerate(genes)}
        place = np.array([places[gene] for gene in told["genes"]])
        masks: dict[Condition, np.ndarray] = {}
        for condition, entries in labels.members().items():
            mask = np.zeros(len(genes), bool)
            for entry in entries:
                mask[place[told["conditions"][entry]["genes"]]] = True
            masks[condition] = mask
        return cls(masks)

    def hidden(self, condition: Condition) -> np.ndarray | None:
        """bool (G,): the genes injected under a condition; None where there is none."""
        return self.masks.get(condition)


def injected_genes(
    store: Any,
    split: Any,
    statistics: Any,
    training: TrainingEffects,
    generated: Generated,
    *,
    part: str,
    found: Injected,
) -> tuple[InjectedGene, ...]:
    """Mean counts of every injected gene, over the conditions it was injected under; the most often injected first.

    Counts are scaled to the training cells' median library. Controls are training controls of the context.
    """
    rows = np.asarray(getattr(split, part))
    labels = labels_of(store.obs.iloc[rows], store.columns)
    assert labels is not None  # a store holds its own columns
    real, target = labels.members(), training.target_sum
    controls = {context: _mean(cells.log_expression(target)) for context, cells in training.controls.items()}
    shape = (3, store.n_genes)
    total, times = np.zeros(shape), np.zeros(shape)
    conditions = np.zeros(store.n_genes, int)
    for condition, mask in found.masks.items():
        if not generated.n(condition):
            continue
        sides = [_mean(generated.take(condition).log_expression(target)), controls.get(condition[0])]
        held_out = real.get(condition, ())
        cells = stored_cells(store, rows[held_out], statistics.mean) if len(held_out) else None
        sides.append(None if cells is None else _mean(cells.log_expression(target)))
        for side, mean in enumerate(sides):
            if mean is not None:
                total[side, mask] += mean[mask]
                times[side, mask] += 1
        conditions += mask
    means = np.divide(total, times, out=np.full(shape, np.nan), where=times > 0)
    genes = sorted(np.flatnonzero(conditions), key=lambda gene: (-conditions[gene], gene))
    return tuple(
        InjectedGene(
            gene=store.panel.genes[gene],
            conditions=int(conditions[gene]),
            generated=float(means[0, gene]),
            control=float(means[1, gene]),
            real=float(means[2, gene]),
        )
        for gene in genes
    )


def _mean(expression: Sparse) -> np.ndarray:
    """(G,) mean scaled count, from log expression (n, G)."""
    return np.asarray(expression.expm1().mean(0)).ravel()
