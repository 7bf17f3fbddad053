"""Batches for training: slabs of consecutive cells, permuted each epoch, the same for any number of hosts and workers.

An element is a slab of 32 cells of the split in stored order; the store was shuffled at ingest, so a slab is a random
sample and one contiguous read. The order of slabs is a pure function of (seed, place in the stream): the state of the
loader is one integer. Where processes outnumber the slabs of a batch, each takes an equal part of a slab.
"""

import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.layouts import Layout, Slabbed, padded_pairs
from data_pipelines.memory import keep_freed_memory
from data_pipelines.slabs import SLAB, Slabs, part_of, slabs_of
from lingshu_jax.vocabulary import ConditionVocabulary

if TYPE_CHECKING:
    import grain

    from data_pipelines.store import CellStore

# B cells of this process's part of the batch, C capacity of the store, G genes

Batch = dict[str, Any]


class _Place:
    """Adds each cell's position in the global batch to slab number `index` of the stream."""

    def __init__(self, slabs_per_batch: int) -> None:
        self.slabs_per_batch = slabs_per_batch

    def __call__(self, index: int, slab: Batch) -> Batch:
        first = index % self.slabs_per_batch * SLAB
        return {**slab, "position": np.arange(first, first + SLAB, dtype=np.int32)}


class _Cut:
    """A stream of slabs of which every part is an element."""

    def __init__(self, stream: "grain.MapDataset", parts: int) -> None:
        self._stream, self._parts = stream, parts

    def __len__(self) -> int:
        return min(len(self._stream), sys.maxsize // self._parts) * self._parts

    def __getitem__(self, index: Any) -> Batch:
        number, part = divmod(int(index), self._parts)
        slab: Any = self._stream[number]
        return part_of(slab, part, self._parts)


class Loader(Iterator[Batch]):
    """An endless iterator of batches (see `make_loader`). Close it, or use it as a context manager."""

    def __init__(self, iterator: Any, store: "CellStore", layout: Layout, parts: int = 1) -> None:
        self._iterator, self._layout, self._parts = iterator, layout, parts
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
        return {name: place // self._parts for name, place in self._iterator.get_state().items()}

    def set_state(self, state: dict[str, int]) -> None:
        """Continue from `state`."""
        self._iterator.set_state({name: place * self._parts for name, place in state.items()})

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
        batch_size: cells of the global batch, a multiple of 32, of which every process can take an equal part.
        seed: of the order, >= 0.
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
        int32 (B,) vocabulary rows or float32 (B,) numbers.

    Raises:
        InputError: there are no rows, the batch size or the seed does not fit, or a column to balance over is missing.
    """
    import grain

    if not len(rows):
        raise InputError(f"no cells to load from {store.path}. Check the split: it must have training cells.")
    if seed < 0:
        raise InputError(f"the loader's seed must be >= 0, got {seed}.")
    shards = shards or grain.sharding.ShardByJaxProcess(drop_remainder=True)
    parts = parts_per_slab(batch_size, shards.shard_count)
    keep_freed_memory()
    stream = _mixed(slabs_of(store, rows, vocabulary, balance), evenness, seed)
    placed = stream.map_with_index(_Place(batch_size // SLAB))
    elastic = grain.experimental.ElasticIterator(
        placed if parts == 1 else grain.MapDataset.source(_Cut(placed, parts)),
        batch_size // SLAB * parts,
        shards,
        # Elements are whole batches here: grain's default of 500 read ahead would be gigabytes.
        read_options=grain.ReadOptions(num_threads=min(4, os.cpu_count() or 4), prefetch_buffer_size=4),
        multiprocessing_options=_workers(workers),
    )
    return Loader(iter(elastic), store, layout, parts)


def parts_per_slab(batch_size: int, processes: int) -> int:
    """Into how many parts slabs are cut, so that every process takes equally many: 1, 2, 4, ... or 32.

    Raises:
        InputError: the batch is no multiple of 32, or cannot be shared by this many processes.
    """
    if batch_size < 1 or batch_size % SLAB:
        fit = max(1, round(batch_size / SLAB)) * SLAB
        raise InputError(f"batch size {batch_size} must be a multiple of {SLAB} (cells of one read). Pass {fit}.")
    parts = 1
    while batch_size // SLAB * parts % processes:
        parts *= 2
        if parts > SLAB:
            fit = max(number for number in range(1, processes + 1) if batch_size % number == 0)
            raise InputError(
                f"{processes} processes cannot take equal parts of a batch of {batch_size} cells. Start {fit}."
            )
    return parts


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


def _workers(workers: int) -> "grain.MultiprocessingOptions | None":
    if not workers:
        return None
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers read absl flags, which nobody parses here
    return grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)


def _flatten(batch: Any) -> Any:
    """Join the slab axis and the cell axis of every array: (slabs, cells of a slab, ...) to (B, ...)."""
    if isinstance(batch, dict):
        return {name: _flatten(value) for name, value in batch.items()}
    return batch.reshape(-1, *batch.shape[2:])
