"""Mean rates that labels start from: fixed, low-rank shifts of genes' log-rates, fitted to training cells."""

# B cells, M members of a set, P patches, S genes per patch, R rank

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.label_terms import LowRankRates, Term, label_terms, term_name
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.conditions import Conditions
from lingshu_jax.model.parameters import Fixed
from lingshu_jax.model.rows import Rows, embed_effects, index_of
from lingshu_jax.vocabulary import CONTROL_ROW, PAD_ROW, ConditionVocabulary


class LabelRates(nnx.Module):
    """`log r_g = sum over terms of table[rows] . basis_g`: what each label, and each pair, does to every gene."""

    def __init__(self, rank: int, layout: GeneLayout, vocabulary: ConditionVocabulary, rates: LowRankRates | None):
        """Zeros where `rates` is None: a shape to restore into."""
        self.vocabulary = vocabulary
        basis = np.zeros((layout.genes, rank), np.float32) if rates is None else rates.basis
        tables: Mapping[str, np.ndarray] = {} if rates is None else rates.tables
        self.basis = Fixed(layout.spread(basis, padding=0.0))
        self.tables = nnx.Dict({term_name(term): Fixed(_table(term, rank, tables)) for term in label_terms(vocabulary)})

    def __call__(self, conditions: Conditions) -> Float[Array, "B P S"] | None:
        """The shift of log-rates; None without any label. Labels left out and features alone shift nothing."""
        told = [
            self._told(term, [conditions[field.name] for field in term])
            for term in label_terms(self.vocabulary)
            if all(field.name in conditions for field in term)
        ]
        return jnp.einsum("br,psr->bps", sum(told[1:], told[0]), self.basis[...]) if told else None

    def _told(self, term: Term, rows: list[Rows]) -> Float[Array, "B R"]:
        table = self.tables[term_name(term)][...]
        if len(rows) == 1:
            return embed_effects(table, rows[0])
        context, perturbation = rows
        pairs, length = table.reshape(-1, table.shape[-1]), table.shape[1]
        where = index_of(context)
        return embed_effects(pairs, _pair(where, perturbation, length), where * length + CONTROL_ROW)


def _pair(context: Int[Array, "B"], perturbation: Rows, length: int) -> Rows:
    """Places of pairs in the flattened table; PAD_ROW where the perturbation has no row in it."""
    wide = context[:, None] if perturbation.ndim == 2 else context
    known = (perturbation != PAD_ROW) & (perturbation < length)
    return jnp.where(known, wide * length + perturbation, PAD_ROW)


def _table(term: Term, rank: int, tables: Mapping[str, np.ndarray]) -> np.ndarray:
    shape = (*(field.rows for field in term), rank)
    return np.asarray(tables.get(term_name(term), np.zeros(shape)), np.float32).reshape(shape)
