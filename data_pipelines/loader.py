"""Batches for training: slabs of consecutive cells, permuted each epoch, the same for any number of hosts and workers.

An element is a slab of 32 cells of the split in stored order; the store was shuffled at ingest, so a slab is a random
sample and one contiguous read. The order of slabs is a pure function of (seed, place in the stream): the state of the
loader is one integer.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import label_text
from data_pipelines.errors import InputError
from data_pipelines.layouts import Layout, Slabbed, padded_pairs
from data_pipelines.memory import keep_freed_memory
from lingshu_jax.vocabulary import ConditionVocabulary

if TYPE_CHECKING:
    import grain
    import pandas

    from data_pipelines.store import CellStore

SLAB = 32
"""Cells of one element."""

# B cells of this process's part of the batch, C capacity of the store, G genes

Batch = dict[str, Any]


def condition_rows(
    store: "CellStore | pandas.DataFrame", rows: np.ndarray, vocabulary: ConditionVocabulary
) -> dict[str, np.ndarray]:
    """Vocabulary rows of some cells.

    Args:
        store: a store, or an obs table with the condition fields as columns.
        rows: integers (n,), positions in it.
        vocabulary: the model's conditions.

    Returns:
        Field name -> int32 (n,).

    Raises:
        InputError: a field is no column.
        UnknownLabel: a cell's label is not in the vocabulary.
    """
    obs: Any = getattr(store, "obs", store)
    result = {}
    for field in vocabulary.fields:
        if field.name not in obs.columns:
            raise InputError(f"condition field {field.name!r} is no obs column (present: {', '.join(obs.columns)}).")
        labels, place = np.unique(label_text(obs[field.name].iloc[rows]).astype(str), return_inverse=True)
        result[field.name] = np.array([field.row(str(label)) for label in labels], np.int32)[place]
    return result


class Slabs:
    """Random access to the slabs of some rows of a store; the last slab wraps around to the first cells."""

    def __init__(self, store: "CellStore", rows: np.ndarray, vocabulary: ConditionVocabulary) -> None:
        self.store = store
        self.rows = np.sort(np.asarray(rows, np.int64))
        self.source = store.source[self.rows]
        self.conditions = condition_rows(store, self.rows, vocabulary)
        self.room = int(
            store.expressed[self.rows[np.arange(len(self) * SLAB) % len(self.rows)]].reshape(-1, SLAB).sum(1).max()
        )
        """Expressed (cell, gene) pairs that every slab has room for; at least those of the fullest."""

    def __len__(self) -> int:
        return (len(self.rows) + SLAB - 1) // SLAB

    def __repr__(self) -> str:
        return f"Slabs({self.store!r}, {len(self.rows)} cells)"

    def __getitem__(self, index: Any) -> Batch:
        place = np.arange(int(index) * SLAB, (int(index) + 1) * SLAB) % len(self.rows)
        rows = self.rows[place]
        if place[-1] - place[0] == SLAB - 1:
            genes, counts, ends = self.store.entries(rows)
        else:  # wraps around
            cells: Any = self.store.counts(rows)
            genes, counts, ends = cells.indices, cells.data, cells.indptr
        return {
            "genes": _padded(genes, self.room, self.store.gene_dtype),
            "counts": _padded(counts, self.room, self.store.count_dtype),
            "ends": ends.astype(np.int32),
            "source": self.source[place],
            "cell": rows,
            "conditions": {name: values[place] for name, values in self.conditions.items()},
        }


def _padded(values: np.ndarray, size: int, dtype: np.dtype) -> np.ndarray:
    padded = np.zeros(size, dtype)
    padded[: len(values)] = values
    return padded


class _Place:
    """Adds each cell's position in the global batch to slab number `index` of the stream."""

    def __init__(self, slabs_per_batch: int) -> None:
        self.slabs_per_batch = slabs_per_batch

    def __call__(self, index: int, slab: Batch) -> Batch:
        first = index % self.slabs_per_batch * SLAB
        return {**slab, "position": np.arange(first, first + SLAB, dtype=np.int32)}


class Loader(Iterator[Batch]):
    """An endless iterator of batches (see `make_loader`). Close it, or use it as a context manager."""

    def __init__(self, iterator: Any, store: "CellStore", layout: Layout) -> None:
        self._iterator, self._layout = iterator, layout
        self._n_genes, self._capacity = store.n_genes, store.capacity
        # Workers and their shared memory go away with the loader, closed or not.
        self._finalizer = weakref.finalize(self, iterator.close)

    def __next__(self) -> Batch:
        batch = dict(next(self._iterator))
        entries = batch.pop("genes"), batch.pop("counts"), batch.pop("ends")
        cells = self._layout(Slabbed(*entries, self._n_genes, self._capacity))
        return {**cells, **_flatten(batch)}

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state(self) -> dict[str, int]:
        """Where the stream stands: JSON-serialisable, valid for any number of hosts and workers."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from `state`."""
        self._iterator.set_state(state)

    def close(self) -> None:
        """Stop threads and workers."""
        self._finalizer()


def make_loader(
    store: "CellStore",
    rows: np.ndarray,
    vocabulary: ConditionVocabulary,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    balance: Sequence[str] = (),
    evenness: float = 1.0,
    layout: Layout = padded_pairs,
    shards: "grain.sharding.ShardOptions | None" = None,
) -> Loader:
    """Batches of some cells of a store, without end, in a new order each epoch.

    With `balance` every combination of labels is a stream of its own, and the streams are mixed by weight. A slab is
    then of one combination; its cells are in stored order all the same.

    Args:
        store: the cell store.
        rows: integers, the stored rows to draw from (a split's `train`).
        vocabulary: conditions; every label of `rows` must be in it.
        batch_size: cells of the global batch, a multiple of 32 and of 32 times the number of processes.
        seed: of the order.
        workers: processes that read ahead; 0 reads in threads of this process.
        balance: obs columns (`_source` for the input files) over whose combinations cells are balanced.
        evenness: 1 gives every combination the same weight, 0 its share of the cells; between: share ** (1 - evenness).
        layout: what becomes of the cells in this process: `padded_pairs`, for a device to make dense, or
            `dense_counts`.
        shards: this process's part of the stream; None asks jax.

    Returns:
        Iterator of dicts of numpy arrays: what `layout` makes of the cells (pairs: `genes` (B, C) panel positions
        padded with G, `counts` (B, C) padded with 0, uint16 where 16 bits are enough, else int32), `source` int32
        (B,), `position` int32 (B,) place in the global batch, `cell` int64 (B,) stored row, `conditions` field ->
        int32 (B,).

    Raises:
        InputError: there are no rows, the batch size does not fit, or a column to balance over is missing.
    """
    import grain

    if not len(rows):
        raise InputError(f"no cells to load from {store.path}. Check the split: it must have training cells.")
    shards = shards or grain.sharding.ShardByJaxProcess(drop_remainder=True)
    unit = SLAB * shards.shard_count
    if batch_size < 1 or batch_size % unit:
        fit = max(1, round(batch_size / unit)) * unit
        raise InputError(
            f"batch size {batch_size} must be a multiple of {unit} ({SLAB} cells x {shards.shard_count} processes). "
            f"Pass {fit}."
        )
    keep_freed_memory()
    slabs_per_batch = batch_size // SLAB
    groups = [Slabs(store, group, vocabulary) for group in _groups(store, rows, balance)]
    for slabs in groups:  # one shape for all
        slabs.room = max(slabs.room for slabs in groups)
    stream = _mixed(groups, evenness, seed)
    elastic = grain.experimental.ElasticIterator(
        stream.map_with_index(_Place(slabs_per_batch)),
        slabs_per_batch,
        shards,
        # Elements are whole batches here: grain's default of 500 read ahead would be gigabytes.
        read_options=grain.ReadOptions(num_threads=min(4, os.cpu_count() or 4), prefetch_buffer_size=4),
        multiprocessing_options=_workers(workers),
    )
    return Loader(iter(elastic), store, layout)


def _mixed(groups: Sequence[Slabs], evenness: float, seed: int) -> "grain.MapDataset":
    """Slabs without end, of every group by its weight, each group in a new order each epoch."""
    import grain

    if not 0 <= evenness <= 1:
        raise InputError(f"evenness must lie in 0..1, got {evenness}.")
    weights = np.array([len(slabs.rows) for slabs in groups]) ** (1 - evenness)
    streams = [
        grain.MapDataset.source(slabs).seed(seed + number).shuffle().repeat() for number, slabs in enumerate(groups)
    ]
    return streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, (weights / weights.sum()).tolist())


def _groups(store: "CellStore", rows: np.ndarray, balance: Sequence[str]) -> list[np.ndarray]:
    """The rows of every combination of labels, all rows as one group without columns."""
    missing = [name for name in balance if name not in store.obs.columns]
    if missing:
        there = ", ".join(store.obs.columns)
        raise InputError(f"{store.path} has no obs column {missing[0]!r} to balance over (present: {there}).")
    if not balance:
        return [rows]
    places = store.obs.iloc[rows].groupby(list(balance), observed=True, sort=True, dropna=False).indices
    return [rows[np.sort(places[key])] for key in places]


def _workers(workers: int) -> "grain.MultiprocessingOptions | None":
    if not workers:
        return None
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers read absl flags, which nobody parses here
    return grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)


def _flatten(batch: Any) -> Any:
    """Join the slab axis and the cell axis of every array: (slabs, 32, ...) to (B, ...)."""
    if isinstance(batch, dict):
        return {name: _flatten(value) for name, value in batch.items()}
    return batch.reshape(-1, *batch.shape[2:])
