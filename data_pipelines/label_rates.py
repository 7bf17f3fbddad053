"""What labels do to the mean of every gene: additive log-rates of labels and of pairs, shrunk, in low rank.

A gene's count in a training cell is expected to be `s mu exp(sum of rates)`, s the cell's size factor and mu the gene's
mean. Rates are those of a Poisson regression on the labels, each shrunk towards 0 by how much the label's genes differ
beyond what sampling and overdispersion explain (empirical Bayes): few cells, or a label that does nothing, say little.
"""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import svds

from data_pipelines.label_dispersion import dispersion_of_labels
from data_pipelines.progress import Progress, silent
from data_pipelines.splits import Split
from data_pipelines.statistics import Statistics
from data_pipelines.stored_arrays import stored_arrays, with_places
from lingshu_jax.label_terms import LowRankRates, Term, label_terms, term_name
from lingshu_jax.vocabulary import CONTROL_ROW, ConditionField, ConditionVocabulary, content_hash

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# n training cells, G genes, T labels (or pairs) of a term that have cells, M groups of cells alike in labels and source

FEWEST_CELLS = 10
"""A pair of labels with fewer training cells is told by its labels alone."""
_FORMAT = 3
"""Of what is stored: changes with how rates are computed."""
_SWEEPS = 8
_SMALLEST_PRIOR, _LARGEST_PRIOR = 0.5, 1e3
"""Bounds of the prior's counts: rates differ by a standard deviation of at most 1.4, and of 0.03 hardly at all."""
_LEVEL = 0.1
"""Genes whose counts are beyond such a relative variance weigh alike in the prior's estimate."""
_GENES_TOGETHER = 512
_LARGEST_EXACT = 512
"""Labels up to which all singular vectors are computed."""


def label_rates(
    store: "CellStore",
    split: Split,
    statistics: Statistics,
    vocabulary: ConditionVocabulary,
    *,
    rank: int,
    mean: np.ndarray | None = None,
    progress: Progress = silent,
) -> LowRankRates:
    """Rates of the vocabulary's labels in the split's training cells: computed when first asked for, then stored.

    Args:
        store: of the cells.
        split: of the store.
        statistics: of the split.
        vocabulary: the fields of a model; labels without training cells have rate 0.
        rank: of the shifts, >= 1.
        mean: (G,) mean counts at size factor 1 that rates are relative to; None: those of `statistics`.
        progress: told of the pass over the cells.

    Raises:
        InputError: the split is of another store, or what is stored cannot be read.
    """
    mean = np.asarray(statistics.mean if mean is None else mean, np.float64)
    terms = label_terms(vocabulary)

    def compute() -> dict[str, np.ndarray]:
        sums = _LabelSums.read(store, split, mean, vocabulary, terms, progress)
        basis, tables = _low_rank(_fit(sums, mean, statistics.dispersion), sums, mean, statistics.dispersion, rank)
        dispersion = dispersion_of_labels(
            store,
            split,
            mean=mean,
            size=sums.cell_size,
            told=sums.told(tables)[sums.group],
            basis=basis,
            progress=progress,
        )
        return {"basis": basis, "dispersion": dispersion} | {
            f"table_{i}": _spread(table, sums.labels[i], term)
            for i, (term, table) in enumerate(zip(terms, tables, strict=True))
        }

    of_mean = hashlib.blake2b(mean.tobytes(), digest_size=16).hexdigest()
    key = content_hash([_FORMAT, vocabulary.to_json(), rank, of_mean])
    found = stored_arrays(store, split, f"label_rates_{key}", compute)
    tables = {term_name(term): found[f"table_{i}"] for i, term in enumerate(terms)}
    return LowRankRates(found["basis"], tables, found["dispersion"])


@dataclasses.dataclass(frozen=True, eq=False)
class _LabelSums:
    """What the rates follow from: counts by label, and size factors by group."""

    labels: list[np.ndarray]
    """Per term, (T, fields): rows of the labels that have cells."""
    counts: list[np.ndarray]
    """Per term, float32 (T, G): sums over the cells of each label."""
    groups: list[np.ndarray]
    """Per term, (M,): which of the labels a group has, -1 for none."""
    size: np.ndarray
    """(M,) sum of size factors."""
    square: list[np.ndarray]
    """Per term, (T,): sum of squared size factors over the square of their sum: 1 / cells of equal size."""
    measured: np.ndarray
    """bool (M, G)."""
    group: np.ndarray
    """(n,) the group of each training cell."""
    cell_size: np.ndarray
    """(n,) its size factor."""

    def told(self, tables: list[np.ndarray]) -> np.ndarray:
        """(M, R): the sum of the tables' rows of each group's labels."""
        rows = [np.append(table, np.zeros((1, table.shape[1]), table.dtype), axis=0) for table in tables]
        return sum(
            (table[place] for table, place in zip(rows[1:], self.groups[1:], strict=True)), rows[0][self.groups[0]]
        )

    @classmethod
    def read(
        cls,
        store: "CellStore",
        split: Split,
        mean: np.ndarray,
        vocabulary: ConditionVocabulary,
        terms: tuple[Term, ...],
        progress: Progress,
    ) -> "_LabelSums":
        """One pass over the training cells."""
        obs = store.obs.iloc[split.train]
        rows = {field.name: _rows(field, obs[field.name].astype(str).to_numpy()) for field in vocabulary.labelled}
        labels, places = zip(*(_labels_of(term, rows) for term in terms), strict=True)
        counts = [np.zeros((len(found), store.n_genes), np.float32) for found in labels]
        size = np.zeros(len(split.train))
        expected = np.maximum(store.measured @ mean, 1e-9)
        for first, some in with_places(store, split.train, "rates of labels", progress):
            block, cells = store.counts(some).astype(np.float64), slice(first, first + len(some))
            size[cells] = np.maximum(np.asarray(block.sum(1)).ravel(), 1.0) / expected[store.source[some]]
            for total, place in zip(counts, places, strict=True):
                part = (_indicator(place[cells], len(total)) @ block).tocoo()
                total[part.row, part.col] += part.data
        source = store.source[split.train]
        alike, group = np.unique(np.stack([*places, source], axis=1), axis=0, return_inverse=True)
        group = group.ravel()
        sums = [_indicator(place, len(found)) for found, place in zip(labels, places, strict=True)]
        return cls(
            labels=list(labels),
            counts=counts,
            groups=list(alike.T[:-1]),
            size=np.bincount(group, size, len(alike)),
            square=[(member @ size**2) / np.maximum(member @ size, 1e-9) ** 2 for member in sums],
            measured=store.measured[alike[:, -1]],
            group=group,
            cell_size=size,
        )


def _rows(field: ConditionField, labels: np.ndarray) -> np.ndarray:
    names, code = np.unique(labels, return_inverse=True)
    return np.array([CONTROL_ROW if field.is_control(name) else field.row(name) for name in names])[code]


def _labels_of(term: Term, rows: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Labels (T, fields) of a term, and which of them every cell (n,) has; -1 where its pair has too few cells."""
    of_cell = np.stack([rows[field.name] for field in term], axis=1)
    labels, place, cells = np.unique(of_cell, axis=0, return_inverse=True, return_counts=True)
    kept = cells >= (FEWEST_CELLS if len(term) > 1 else 1)
    number = np.where(kept, np.cumsum(kept) - 1, -1)
    return labels[kept], number[place.ravel()]


def _indicator(place: np.ndarray, length: int) -> scipy.sparse.csr_matrix:
    """(length, n): 1 where a cell has the label."""
    has = np.flatnonzero(place >= 0)
    return scipy.sparse.csr_matrix((np.ones(len(has)), (place[has], has)), (length, len(place)))


def _fit(sums: _LabelSums, mean: np.ndarray, dispersion: np.ndarray) -> list[np.ndarray]:
    """Per term, float32 (T, G): labels alone until they agree, then what pairs add to them."""
    rates = [np.zeros_like(counts) for counts in sums.counts]
    alone = [i for i, labels in enumerate(sums.labels) if labels.shape[1] == 1]
    pairs = [i for i, labels in enumerate(sums.labels) if labels.shape[1] > 1]
    for i in alone * (_SWEEPS if len(alone) > 1 else 1) + pairs:
        expected = _expected(sums, rates, i, mean)
        for label, counts in enumerate(sums.counts[i]):
            rates[i][label] = _shrunk(counts, expected[label], sums.square[i][label] / dispersion)
    return rates


def _expected(sums: _LabelSums, rates: list[np.ndarray], term: int, mean: np.ndarray) -> np.ndarray:
    """(T, G): counts of each label of a term that all other terms expect."""
    has = _indicator(sums.groups[term], len(sums.labels[term]))
    expected = np.zeros(sums.counts[term].shape)
    for start in range(0, len(mean), _GENES_TOGETHER):
        genes = slice(start, start + _GENES_TOGETHER)
        told = np.zeros((len(sums.size), len(mean[genes])))
        for i, table in enumerate(rates):
            known = sums.groups[i] >= 0
            if i != term:
                told[known] += table[sums.groups[i][known], genes]
        expected[:, genes] = has @ (sums.size[:, None] * sums.measured[:, genes] * np.exp(told)) * mean[genes]
    return expected


def _shrunk(counts: np.ndarray, expected: np.ndarray, overdispersion: np.ndarray) -> np.ndarray:
    """(G,) log of the posterior mean of each rate under a gamma prior of mean 1, whose weight the genes tell together.

    Args:
        counts, expected: (G,) of one label.
        overdispersion: (G,) relative variance of the counts beyond Poisson.
    """
    noise = expected + overdispersion * expected**2
    weight = 1.0 / (noise + _LEVEL * expected**2 + 1e-12)
    excess = ((counts - expected) ** 2 - noise) * weight
    variance = excess.sum() / max((expected**2 * weight).sum(), 1e-12)
    prior = 1.0 / np.clip(variance, 1.0 / _LARGEST_PRIOR, 1.0 / _SMALLEST_PRIOR)
    if counts.sum() == 0 or expected.sum() == 0:  # empty cells tell nothing of genes
        return np.zeros(len(counts))
    told = expected > 0
    ratio = counts / np.where(told, expected, 1.0)
    heard = 1.0 / (1.0 / np.where(told, expected, 1.0) + overdispersion)  # counts, had they been Poisson
    rate = np.where(told, (prior + heard * ratio) / (prior + heard), 1.0)
    # The total stays what the cells' size factors say.
    return np.log(rate) - np.log((expected * rate).sum() / counts.sum())


def _low_rank(
    rates: list[np.ndarray], sums: _LabelSums, mean: np.ndarray, dispersion: np.ndarray, rank: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """float32 basis (G, rank) and tables (T, rank): best where cells and counts are many."""
    lengths = [len(labels) for labels in sums.labels]
    by_label = np.concatenate([_indicator(group, n) @ sums.size for group, n in zip(sums.groups, lengths, strict=True)])
    of_label, of_gene = np.sqrt(np.maximum(by_label, 1e-9)), np.sqrt(mean / (1.0 + mean / dispersion) + 1e-9)
    weighted = np.concatenate(rates) * of_label[:, None] * of_gene
    left, values, right = _singular(weighted, rank)
    kept = min(rank, int((values > 1e-6 * max(values[0], 1e-12)).sum()))
    basis, table = np.zeros((len(mean), rank), np.float32), np.zeros((len(weighted), rank), np.float32)
    basis[:, :kept] = right[:kept].T / of_gene[:, None]
    table[:, :kept] = left[:, :kept] * values[:kept] / of_label[:, None]
    return basis, np.split(table, np.cumsum(lengths)[:-1])


def _singular(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At least the first `rank` singular vectors and values, the largest first."""
    if len(matrix) <= _LARGEST_EXACT or rank >= min(matrix.shape) - 1:
        return np.linalg.svd(matrix, full_matrices=False)
    found: Any = svds(matrix, k=rank, v0=np.ones(min(matrix.shape)))
    left, values, right = found
    return left[:, ::-1], values[::-1], right[::-1]


def _spread(table: np.ndarray, labels: np.ndarray, term: Term) -> np.ndarray:
    """A table (T, R) at the rows of the term's fields, (rows, ..., R)."""
    spread = np.zeros((*(field.rows for field in term), table.shape[1]), np.float32)
    spread[tuple(labels.T)] = table
    return spread
