"""What a model may know before it learns: computed from the training cells of one split, stored under its hash."""

import dataclasses
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines import summed_json
from data_pipelines.depth_prior import ConditionSizes, DepthPrior, fit_depth_prior
from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from data_pipelines.location import Location
from data_pipelines.npz import read_npz
from data_pipelines.progress import Progress, silent
from data_pipelines.splits import Split
from lingshu_jax.tokens import VOCAB_SIZE, encode_counts
from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary, GenePanel, LibrarySizeField, NumberField

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# n cells of a block, G genes, V output tokens, S sources

FORMAT = 1
"""Of statistics.json."""
_ARRAYS = ("histogram", "mean", "dispersion")
SMALLEST_LOG_VARIANCE = 1e-4
_NUMBERS = ("library_mean", "library_log_variance", "median_library", "n_cells")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of the training cells of one split of one store."""

    store_hash: str
    split_hash: str
    panel: GenePanel
    vocabulary: ConditionVocabulary
    """Labels that have training cells, sorted; mean and scale of numbers."""
    histogram: np.ndarray
    """int64 (G, V): how often each gene has each token, over the cells that measured it."""
    mean: np.ndarray
    """float64 (G,): mu of the negative binomial at size factor 1, in counts."""
    dispersion: np.ndarray
    """float64 (G,): theta; var = mu + mu^2 / theta."""
    library_mean: float
    """Mean counts per cell."""
    library_log_variance: float
    """Variance of the log size factor."""
    median_library: float
    """Median counts per cell."""
    n_cells: int
    """Training cells."""
    conditions: Mapping[tuple[str, ...], ConditionSizes]
    """Training cells of each condition and their log size factors; labels in the order of the vocabulary's fields of
    labels."""

    @property
    def cells_per_condition(self) -> dict[tuple[str, ...], int]:
        """Training cells of each condition."""
        return {labels: sizes.cells for labels, sizes in self.conditions.items()}

    def depth_prior(self, vocabulary: ConditionVocabulary) -> DepthPrior:
        """What the labels of these fields tell of a cell's log size factor."""
        names = tuple(field.name for field in self.vocabulary.labelled)
        return fit_depth_prior(self.conditions, names, vocabulary)

    @property
    def library_size(self) -> LibrarySizeField:
        """The log library size as a condition: median and standard deviation over training cells."""
        scale = max(self.library_log_variance, SMALLEST_LOG_VARIANCE) ** 0.5
        return LibrarySizeField(mean=float(np.log(max(self.median_library, 1.0))), scale=scale)


def load_statistics(store: "CellStore", split: Split, *, progress: Progress = silent) -> Statistics:
    """The stored statistics of a split, computed now when there are none yet.

    Raises:
        InputError: the split is of another store, or what is stored belongs to another split.
    """
    check_split(store, split)
    folder = store.path / f"statistics/{split.hash}"
    # Written last, so that the arrays are there when it is.
    stored = folder.read("statistics.json")
    if stored is None:
        return compute_statistics(store, split, progress=progress)
    try:
        facts = summed_json.load(
            stored, lambda found: check_format(f"{folder}", found, FORMAT, "Remove the folder; it is computed again.")
        )
        arrays = read_npz(folder.read("statistics.npz") or b"", _ARRAYS)
        values: dict[str, Any] = arrays | {name: facts[name] for name in _NUMBERS}
        vocabulary = ConditionVocabulary.from_json(facts["vocabulary"])
        conditions = {tuple(labels): ConditionSizes(*sizes) for labels, *sizes in facts["conditions"]}
        owner = (facts["store_hash"], facts["split_hash"])
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} cannot be read ({error}). Remove the folder; it is computed again.") from error
    if owner != (store.hash, split.hash):
        raise InputError(f"{folder} holds the statistics of split {owner[1]}, not {split.hash}. Remove the folder.")
    return Statistics(
        store_hash=store.hash,
        split_hash=split.hash,
        panel=store.panel,
        vocabulary=vocabulary,
        conditions=conditions,
        **values,
    )


def compute_statistics(store: "CellStore", split: Split, *, progress: Progress = silent) -> Statistics:
    """Compute the statistics of a split's training cells in one streamed pass, and store them.

    Raises:
        InputError: the split is of another store.
    """
    check_split(store, split)
    sums = _Sums(store)
    done = 0
    for rows in blocks_of(store, split.train):
        sums.add(rows)
        done += len(rows)
        progress("statistics", done, len(split.train))
    moments, size = sums.finish()
    statistics = Statistics(
        store_hash=store.hash,
        split_hash=split.hash,
        panel=store.panel,
        vocabulary=training_vocabulary(store, split),
        n_cells=len(split.train),
        conditions=_conditions(store.columns.fields, store.obs.iloc[split.train], np.log(size)),
        **moments,
    )
    _save(store.path / f"statistics/{split.hash}", statistics)
    return statistics


def training_vocabulary(store: "CellStore", split: Split) -> ConditionVocabulary:
    """The condition fields of the store, with the labels that have training cells, sorted, then the numbers."""
    columns, fields = store.columns, []
    obs = store.obs.iloc[split.train]
    for name in columns.context:
        fields.append(ConditionField(name=name, labels=tuple(sorted(map(str, obs[name].unique())))))
    if columns.perturbation is not None:
        labels = set(map(str, obs[columns.perturbation].unique())) - set(columns.control)
        fields.append(
            ConditionField(
                name=columns.perturbation,
                kind="perturbation",
                labels=tuple(sorted(labels)),
                controls=tuple(dict.fromkeys(columns.control)),
            )
        )
    for name in columns.numbers:
        numbers = np.asarray(obs[name], np.float64)
        fields.append(NumberField(name=name, mean=float(numbers.mean()), scale=float(numbers.std()) or 1.0))
    return ConditionVocabulary(tuple(fields))


class _Sums:
    """Sums over training cells from which the moments follow, per source because sources measure other genes."""

    def __init__(self, store: "CellStore") -> None:
        S, G = store.measured.shape
        self.store = store
        self.cells = np.zeros(S)
        self.histogram = np.zeros(G * VOCAB_SIZE, np.int64)
        self.count, self.square, self.by_library = (np.zeros((S, G)) for _ in range(3))
        self.library: list[np.ndarray] = []
        self.source: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        counts, source = self.store.counts(rows), self.store.source[rows]
        library = np.asarray(counts.sum(1), np.float64).ravel()
        place = counts.indices.astype(np.int64) * VOCAB_SIZE + encode_counts(counts.data)
        self.histogram += np.bincount(place, minlength=len(self.histogram))
        for s in np.unique(source):
            mine = counts[source == s].astype(np.float64)
            self.cells[s] += mine.shape[0]
            self.count[s] += np.asarray(mine.sum(0)).ravel()
            self.by_library[s] += mine.T @ np.maximum(library[source == s], 1.0)
            self.square[s] += np.asarray(mine.multiply(mine).sum(0)).ravel()
        self.library.append(library)
        self.source.append(source)

    def finish(self) -> tuple[dict[str, Any], np.ndarray]:
        """The statistics, and the size factor of every cell in the order added, float64 (n,)."""
        measured = self.store.measured
        histogram = self.histogram.reshape(-1, VOCAB_SIZE)
        cells = self.cells @ measured  # (G,) cells that measured the gene
        histogram[:, 0] = cells.astype(np.int64) - histogram[:, 1:].sum(1)
        library, source = np.concatenate(self.library), np.concatenate(self.source)
        raw_mean = self.count.sum(0) / np.maximum(cells, 1)
        # A cell's size factor compares its library with what its source's genes hold on average.
        expected = np.maximum(measured @ raw_mean, 1e-9)  # (S,)
        size = np.maximum(library, 1.0) / expected[source]
        size_sum = np.bincount(source, size, len(expected)) @ measured
        square_sum = np.bincount(source, size**2, len(expected)) @ measured
        mean, phi = _negative_binomial(
            count=self.count.sum(0),
            square=self.square.sum(0),
            by_size=(self.by_library / expected[:, None]).sum(0),
            size_sum=size_sum,
            square_sum=square_sum,
            cells=np.maximum(cells, 1),
        )
        moments = {
            "histogram": histogram,
            "mean": mean,
            "dispersion": 1 / phi,
            "library_mean": float(library.mean()),
            "library_log_variance": float(np.log(size).var()),
            "median_library": float(np.median(library)),
        }
        return moments, size


def _negative_binomial(
    *,
    count: np.ndarray,
    square: np.ndarray,
    by_size: np.ndarray,
    size_sum: np.ndarray,
    square_sum: np.ndarray,
    cells: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Moment estimates (G,) of mean and overdispersion, both shrunk a little so that rare genes stay finite.

    Args:
        count, square, by_size: sums of X, X^2 and s X over the cells that measured each gene; s is the size factor.
        size_sum, square_sum: sums of s and s^2 over the same cells.
        cells: their number.
    """
    mean_size = np.maximum(size_sum / cells, 1e-9)
    prior = count / cells + 1e-4
    mean = (count + 0.3 * prior * mean_size) / (np.maximum(size_sum, 1e-9) + 0.3 * mean_size)
    squared_error = square - 2 * mean * by_size + mean**2 * square_sum
    return mean, overdispersion(squared_error, count, mean**2 * square_sum)


def overdispersion(squared_error: np.ndarray, count: np.ndarray, square: np.ndarray) -> np.ndarray:
    """phi (G,) of var = m + phi m^2, from sums over cells of (X - m)^2, X and m^2; shrunk a little towards 0.05."""
    return np.clip((squared_error - count + 0.15) / (square + 3.0), 1e-3, 5.0)


def _conditions(fields: tuple[str, ...], obs: Any, log_size: np.ndarray) -> dict[tuple[str, ...], ConditionSizes]:
    """Cells, and mean and variance of their log size factors, of every condition."""
    if not fields:
        return {(): ConditionSizes(len(obs), float(log_size.mean()), float(log_size.var()))}
    sizes = obs[list(fields)].assign(_log_size=log_size).groupby(list(fields), observed=True, sort=True)["_log_size"]
    return {
        key if isinstance(key, tuple) else (key,): ConditionSizes(
            len(group), float(group.mean()), float(group.var(ddof=0))
        )
        for key, group in sizes
    }


def blocks_of(store: "CellStore", rows: np.ndarray) -> list[np.ndarray]:
    """Consecutive pieces of `rows` of a few million entries each."""
    per_block = max(1, _BLOCK_ENTRIES // store.capacity)
    return [rows[start : start + per_block] for start in range(0, len(rows), per_block)]


_BLOCK_ENTRIES = 8_000_000


def check_split(store: "CellStore", split: Split) -> None:
    """Require that a split is of this store.

    Raises:
        InputError: it is not.
    """
    if split.store_hash != store.hash:
        raise InputError(f"split {split.name!r} is of store {split.store_hash}, not of {store.path} ({store.hash}).")


def _save(folder: Location, statistics: Statistics) -> None:
    """The same training cells give the same bytes: processes that save at the same time do not disturb each other."""
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **{name: getattr(statistics, name) for name in _ARRAYS})
    facts = {name: getattr(statistics, name) for name in ("store_hash", "split_hash", *_NUMBERS)} | {
        "format": FORMAT,
        "panel_hash": statistics.panel.hash,
        "vocabulary": statistics.vocabulary.to_json(),
        "conditions": [[list(labels), *dataclasses.astuple(sizes)] for labels, sizes in statistics.conditions.items()],
    }
    folder.write("statistics.npz", arrays.getvalue())
    folder.write("statistics.json", summed_json.dump(facts))
