"""The loader beside others that read the same counts: dense (256, G) batches per second, in one run.

    python -m experiments.benchmarks.loader [--cells 20000] [--genes 18080] [--seconds 10]

Every row delivers uint16 (256, G) batches of shuffled cells from this machine's page cache. Ceiling: CSR in memory to a
fresh dense array, one thread. annbatch (extra `bench`) reads a store that its own writer made.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import anndata
import grain
import numpy as np
import scipy.sparse

from data_pipelines import (
    CellStore,
    Columns,
    RandomCells,
    dense_counts,
    ingest,
    load_statistics,
    make_loader,
    make_split,
)
from experiments.benchmarks.simulated_cells import simulated_counts

BATCH = 256
Dense = np.ndarray


def ours(store: CellStore) -> Iterator[Dense]:
    """The loader, cells made dense in this process."""
    split = make_split(store, RandomCells(test=0.0, val=0.0), name="bench")
    alone = grain.sharding.ShardOptions(shard_index=0, shard_count=1)
    vocabulary = load_statistics(store, split).vocabulary
    with make_loader(
        store, split.train, vocabulary, batch_size=BATCH, seed=0, layout=dense_counts, shards=alone
    ) as loader:
        for batch in loader:
            yield batch["counts"]


def in_memory(counts: scipy.sparse.csr_matrix) -> Iterator[Dense]:
    """The ceiling: blocks of rows of a CSR matrix in memory."""
    small: Any = counts.astype(np.uint16)
    rng = np.random.default_rng(0)
    while True:
        first = int(rng.integers(small.shape[0] - BATCH))
        yield small[first : first + BATCH].toarray()


def backed(path: pathlib.Path) -> Iterator[Dense]:
    """Blocks of rows of a backed h5ad file."""
    adata = anndata.read_h5ad(path, backed="r")
    rng = np.random.default_rng(0)
    while True:
        first = int(rng.integers(adata.n_obs - BATCH))
        block: Any = adata[first : first + BATCH].X
        yield block.toarray().astype(np.uint16)


def annbatch_batches(path: pathlib.Path, folder: pathlib.Path) -> Iterator[Dense]:
    """annbatch's loader on a collection that annbatch wrote."""
    import annbatch  # pyright: ignore[reportMissingImports]  # of the extra `bench`
    import zarr

    collection = annbatch.DatasetCollection(zarr.open_group(folder / "annbatch.zarr", mode="w"))
    collection.add_adatas([str(path)])
    while True:
        loader = annbatch.Loader(batch_size=BATCH, chunk_size=BATCH, preload_nchunks=16, shuffle=True)
        loader.use_collection(collection)
        for batch in loader:
            counts = batch["X"]
            if counts.shape[0] == BATCH:
                yield counts.toarray().astype(np.uint16)


def rate(batches: Iterable[Dense], seconds: float) -> float:
    """Cells per second, after a first few batches."""
    iterator = iter(batches)
    for _ in range(8):
        next(iterator)
    start, cells = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        cells += len(next(iterator))
    return cells / (time.perf_counter() - start)


def main() -> None:
    """Print one line per loader and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=18_080)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="loader-bench-") as name:
        folder = pathlib.Path(name)
        counts = simulated_counts(options.cells, options.genes)
        anndata.AnnData(counts).write_h5ad(folder / "cells.h5ad")
        store = ingest(folder / "cells.h5ad", folder / "store", columns=Columns(), memory_mb=2048)
        size = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
        print(f"{options.cells:,} cells x {options.genes:,} genes; store {size / options.cells:,.0f} bytes/cell")
        rates = {"lingshu": rate(ours(store), options.seconds), "ceiling": rate(in_memory(counts), options.seconds)}
        rates["backed h5ad"] = rate(backed(folder / "cells.h5ad"), options.seconds)
        try:
            rates["annbatch"] = rate(annbatch_batches(folder / "cells.h5ad", folder), options.seconds)
        except ImportError:
            print("annbatch is not installed: pip install 'lingshu-jax[bench]'")
        for loader, cells in rates.items():
            print(f"{loader:<12} {cells:>9,.0f} cells/s")
        targets = {"ceiling": ">= 0.5x", "annbatch": ">= 1.5x", "backed h5ad": "reported"}
        for other in rates.keys() - {"lingshu"}:
            print(f"lingshu / {other}: {rates['lingshu'] / rates[other]:.2f}x (target {targets[other]})")
        print(f"lingshu: {rates['lingshu']:,.0f} cells/s (target >= 50,000 on 2 cores)")


if __name__ == "__main__":
    main()
