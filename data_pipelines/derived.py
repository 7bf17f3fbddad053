"""More that is learned from the training cells of one split: computed when first asked for, stored under its hash.

Token histograms by context, co-expression features of genes, and the genes that each perturbation turns down.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from data_pipelines.splits import Split
from data_pipelines.stored_arrays import stored_arrays, with_places
from lingshu_jax.tokens import VOCAB_SIZE, encode_counts

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# n cells, G genes, V output tokens, K components

CELLS_SCALE = 10_000.0
"""Counts are scaled to so many per cell before log1p."""
_OVERSAMPLING, _PASSES = 16, 4
MOST_CONTROLS = 2_000
"""Control cells of one context that a perturbation is compared with; more are drawn from."""
FEWEST_CELLS = 10
"""Fewer cells of a perturbation in a context say nothing of its genes."""
_GENES_TOGETHER = 512


def context_histograms(
    store: "CellStore", split: Split, *, progress: Progress = silent
) -> dict[tuple[str, ...], np.ndarray]:
    """Token histograms of the training cells of each context.

    Returns:
        Labels of the context columns -> int64 (G, V). Token 0: cells that measured the gene and do not express it.
    """
    names = store.columns.context

    def compute() -> dict[str, np.ndarray]:
        obs = store.obs.iloc[split.train]
        keys = (
            [""] * len(obs) if not names else [json.dumps([str(v) for v in row]) for row in obs[list(names)].to_numpy()]
        )
        labels, code = np.unique(np.array(keys), return_inverse=True)
        sums = np.zeros((len(labels), store.n_genes * VOCAB_SIZE), np.int64)
        cells = np.zeros((len(labels), len(store.measured)), np.int64)
        for first, rows in with_places(store, split.train, "histograms by context", progress):
            counts = store.counts(rows)
            of_entry = np.repeat(np.arange(len(rows)), np.diff(counts.indptr))
            place = counts.indices.astype(np.int64) * VOCAB_SIZE + encode_counts(counts.data)
            mine = code[first : first + len(rows)]
            for label in np.unique(mine):
                sums[label] += np.bincount(place[mine[of_entry] == label], minlength=sums.shape[1])
                cells[label] += np.bincount(store.source[rows][mine == label], minlength=cells.shape[1])
        histogram = sums.reshape(len(labels), store.n_genes, VOCAB_SIZE)
        histogram[:, :, 0] = cells @ store.measured - histogram[:, :, 1:].sum(2)
        packed = scipy.sparse.csr_matrix(histogram.reshape(len(labels), -1))
        return {"labels": labels, "data": packed.data, "indices": packed.indices, "indptr": packed.indptr}

    stored = stored_arrays(store, split, "context_histograms", compute)
    packed = scipy.sparse.csr_matrix(
        (stored["data"], stored["indices"], stored["indptr"]),
        shape=(len(stored["labels"]), store.n_genes * VOCAB_SIZE),
    )
    return {
        tuple(json.loads(str(label))) if label else (): packed[i].toarray().reshape(store.n_genes, VOCAB_SIZE)
        for i, label in enumerate(stored["labels"])
    }


def coexpression_features(
    store: "CellStore", split: Split, *, components: int = 64, progress: Progress = silent
) -> np.ndarray:
    """Features of genes from how they vary together: a randomised SVD of centred log1p counts of training controls.

    Without a perturbation column all training cells serve. Signs are fixed: each component's largest entry is positive.

    Returns:
        float32 (G, K), K <= components; gene g's loadings times the components' standard deviations, 0 for
        genes that no control expresses.

    Raises:
        InputError: there are fewer than two control cells in training.
    """
    rows = _training_controls(store, split)
    if len(rows) < 2:
        raise InputError(f"{store.path}: split {split.name!r} has {len(rows)} training controls; features need two.")

    def compute() -> dict[str, np.ndarray]:
        width = min(components + _OVERSAMPLING, store.n_genes, len(rows))
        basis = np.random.default_rng(0).normal(size=(store.n_genes, width))
        mean = np.zeros(store.n_genes)
        for block in _log_blocks(store, rows, "co-expression: means", progress):
            mean += np.asarray(block.sum(0)).ravel() / len(rows)
        for number in range(_PASSES):
            basis = np.linalg.qr(_times_covariance(store, rows, mean, basis, number, progress))[0]
        small = basis.T @ _times_covariance(store, rows, mean, basis, _PASSES, progress)
        values, vectors = np.linalg.eigh((small + small.T) / 2)
        keep = np.argsort(-values)[:components]
        features = basis @ vectors[:, keep] * np.sqrt(np.maximum(values[keep], 0.0))
        features *= np.sign(features[np.abs(features).argmax(0), np.arange(features.shape[1])])
        return {"features": features.astype(np.float32)}

    return stored_arrays(store, split, f"coexpression_{components}", compute)["features"]


def down_regulated(
    store: "CellStore", split: Split, *, level: float = 0.05, progress: Progress = silent
) -> dict[tuple[str, ...], np.ndarray]:
    """Genes that each perturbation turns down in each context, in training cells against the context's controls.

    Mann-Whitney on log1p counts of equal library size, Benjamini-Hochberg over the genes that either side expresses.

    Returns:
        Labels of a condition, in the order of the fields -> int32 panel positions, sorted. Conditions with fewer than
        10 training cells, or without controls in their context, are not in it.
    """
    columns = store.columns
    if columns.perturbation is None:
        return {}

    def compute() -> dict[str, np.ndarray]:
        groups = store.obs.iloc[split.train].groupby(list(columns.fields), observed=True, sort=True).indices
        rows = {key if isinstance(key, tuple) else (key,): split.train[np.sort(place)] for key, place in groups.items()}
        rng = np.random.default_rng(0)
        controls: dict[tuple[str, ...], np.ndarray] = {}
        for key, cells in rows.items():
            if key[-1] in columns.control:
                controls[key[:-1]] = np.concatenate([controls.get(key[:-1], np.zeros(0, np.int64)), cells])
        controls = {
            key: np.sort(rng.choice(cells, min(len(cells), MOST_CONTROLS), replace=False))
            for key, cells in controls.items()
        }
        tested = [
            key
            for key, cells in rows.items()
            if key[-1] not in columns.control and key[:-1] in controls and len(cells) >= FEWEST_CELLS
        ]
        found = []
        context, untreated = None, None
        for done, key in enumerate(tested, 1):
            if untreated is None or key[:-1] != context:  # sorted: a context's controls are read once
                context, untreated = key[:-1], _logged(store, controls[key[:-1]]).tocsc()
            found.append(_turned_down(_logged(store, rows[key]).tocsc(), untreated, level))
            progress("down-regulated genes", done, len(tested))
        ends = np.cumsum([0, *map(len, found)])
        return {
            "labels": np.array([json.dumps([str(label) for label in key]) for key in tested], dtype=np.str_),
            "genes": np.concatenate([np.zeros(0, np.int32), *found]),
            "ends": ends,
        }

    stored = stored_arrays(store, split, f"down_regulated_{level:g}", compute)
    return {
        tuple(json.loads(str(label))): stored["genes"][stored["ends"][i] : stored["ends"][i + 1]]
        for i, label in enumerate(stored["labels"])
    }


def control_means(
    store: "CellStore", split: Split, *, progress: Progress = silent
) -> dict[tuple[str, ...], np.ndarray]:
    """Mean counts of the training controls of each context: labels of the context columns -> float64 (G,)."""
    columns = store.columns
    if columns.perturbation is None:
        return {}

    def compute() -> dict[str, np.ndarray]:
        obs = store.obs.iloc[split.train]
        rows = split.train[columns.is_control(obs[columns.perturbation])]
        keys = [json.dumps([str(v) for v in row]) for row in store.obs.iloc[rows][list(columns.context)].to_numpy()]
        labels, code = np.unique(np.array(keys, dtype=np.str_), return_inverse=True)
        total, cells = np.zeros((len(labels), store.n_genes)), np.zeros((len(labels), store.n_genes))
        for first, some in with_places(store, rows, "means of controls", progress):
            mine = code[first : first + len(some)]
            member = scipy.sparse.csr_matrix(
                (np.ones(len(some)), (mine, np.arange(len(some)))), (len(labels), len(some))
            )
            total += (member @ store.counts(some)).toarray()
            cells += member @ store.measured[store.source[some]]
        return {"labels": labels, "means": total / np.maximum(cells, 1)}

    stored = stored_arrays(store, split, "control_means", compute)
    return {tuple(json.loads(str(label))): stored["means"][i] for i, label in enumerate(stored["labels"])}


def detected_in_controls(store: "CellStore", split: Split, *, progress: Progress = silent) -> np.ndarray:
    """Share of the training controls that express each gene, of those that measured it: float64 (G,)."""
    rows = _training_controls(store, split)

    def compute() -> dict[str, np.ndarray]:
        expressed, cells = np.zeros(store.n_genes), np.zeros(store.n_genes)
        for _, some in with_places(store, rows, "detection in controls", progress):
            expressed += np.asarray((store.counts(some) > 0).sum(0)).ravel()
            cells += store.measured[store.source[some]].sum(0)
        return {"share": expressed / np.maximum(cells, 1)}

    return stored_arrays(store, split, "detected_in_controls", compute)["share"]


def _training_controls(store: "CellStore", split: Split) -> np.ndarray:
    """Rows of the training controls; of all training cells where there are no perturbations."""
    if store.columns.perturbation is None:
        return split.train
    return split.train[store.columns.is_control(store.obs[store.columns.perturbation].iloc[split.train])]


def _turned_down(cells: Any, controls: Any, level: float) -> np.ndarray:
    from scipy.stats import false_discovery_control, mannwhitneyu

    expressed = np.flatnonzero(np.diff(cells.indptr) + np.diff(controls.indptr))
    p = np.ones(len(expressed))
    for start in range(0, len(expressed), _GENES_TOGETHER):
        some = expressed[start : start + _GENES_TOGETHER]
        test = mannwhitneyu(cells[:, some].toarray(), controls[:, some].toarray(), axis=0, method="asymptotic")
        p[start : start + len(some)] = np.nan_to_num(test.pvalue, nan=1.0)
    if not len(expressed):
        return np.zeros(0, np.int32)
    lower = np.asarray(cells[:, expressed].mean(0)).ravel() < np.asarray(controls[:, expressed].mean(0)).ravel()
    return expressed[(false_discovery_control(p) < level) & lower].astype(np.int32)


def _times_covariance(
    store: "CellStore", rows: np.ndarray, mean: np.ndarray, basis: np.ndarray, number: int, progress: Progress
) -> np.ndarray:
    """(G, K): covariance of the logged counts times the basis, streamed."""
    product = np.zeros_like(basis)
    for block in _log_blocks(store, rows, f"co-expression: pass {number + 1}/{_PASSES + 1}", progress):
        product += block.T @ (block @ basis)
    return product / len(rows) - np.outer(mean, mean @ basis)


def _log_blocks(store: "CellStore", rows: np.ndarray, stage: str, progress: Progress) -> Iterator[Any]:
    for _, some in with_places(store, rows, stage, progress):
        yield _logged(store, some)


def _logged(store: "CellStore", rows: np.ndarray) -> Any:
    """float64 CSR (n, G): log1p of counts scaled to equal libraries."""
    counts: Any = store.counts(rows).astype(np.float64)
    library = np.maximum(np.asarray(counts.sum(1)).ravel(), 1.0)
    counts.data = np.log1p(counts.data * np.repeat(CELLS_SCALE / library, np.diff(counts.indptr)))
    return counts
