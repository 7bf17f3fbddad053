"""Which labels, alone or in pairs, have mean rates of their own that a model starts from, and what these are."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary

Term = tuple[ConditionField, ...]
MOST_PAIRS = 65_536
"""Entries of a pair's table beyond which labels are told alone."""


def label_terms(vocabulary: ConditionVocabulary) -> tuple[Term, ...]:
    """Every field of labels, then each context of several labels with the perturbation: what labels do, and what a
    perturbation does in one context and not in others."""
    alone = tuple((field,) for field in vocabulary.labelled)
    perturbation = vocabulary.perturbation
    if perturbation is None:
        return alone
    return alone + tuple(
        (context, perturbation)
        for context in vocabulary.contexts
        if len(context.labels) > 1 and context.rows * perturbation.rows <= MOST_PAIRS
    )


def term_name(term: Term) -> str:
    """As 'cell_type' or 'cell_type x target'."""
    return " x ".join(field.name for field in term)


@dataclasses.dataclass(frozen=True, eq=False)
class LowRankRates:
    """What labels do to the log-rate of every gene: `tables[term][rows] @ basis.T`. G genes, R rank."""

    basis: np.ndarray
    """float32 (G, R)."""
    tables: Mapping[str, np.ndarray]
    """By the name of a term, float32 (rows of its first field, ..., R); 0 for labels without training cells."""
    dispersion: np.ndarray
    """float64 (G,): theta of var = m + m^2 / theta around the means m that labels tell."""
