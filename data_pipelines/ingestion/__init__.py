"""Ingest: h5ad files in, one globally shuffled and sharded cell store out, in bounded memory.

Pass 1 checks every count and measures every cell; pass 2 sorts the cells into buckets on disk, permutes each bucket
in memory and writes whole shards. The store appears under its name in one step, when it is complete.
"""

import json
import pathlib
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.columns import Columns
from data_pipelines.errors import InputError
from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.panel import Alignment, union_panel
from data_pipelines.ingestion.sources import Source, check_paths, checksum, open_sources
from data_pipelines.progress import Progress, silent

if TYPE_CHECKING:
    from data_pipelines.ingestion.tables import Identity
    from data_pipelines.store import CellStore


def ingest(
    paths: str | pathlib.Path | Iterable[str | pathlib.Path],
    out: str | pathlib.Path,
    *,
    columns: Columns,
    layer: str | None = None,
    seed: int = 0,
    memory_mb: int = 1024,
    progress: Progress = silent,
) -> "CellStore":
    """Turn h5ad files of raw counts into a cell store.

    Args:
        paths: one or more h5ad files; the panel is the union of their genes.
        out: folder of the store. If it already holds exactly this store, nothing is done.
        columns: what the obs columns mean; kept in the store.
        layer: None reads X; 'raw.X' or a layer's name reads that.
        seed: of the global shuffle.
        memory_mb: approximate bound on the memory that counts take at any time.
        progress: called as progress(stage, cells done, cells).

    Returns:
        The open store.

    Raises:
        InputError: the input is unusable, or `out` holds something else. Nothing is left behind.
    """
    from data_pipelines.ingestion.tables import Identity, combined_obs

    files = [pathlib.Path(path) for path in ([paths] if isinstance(paths, str | pathlib.Path) else paths)]
    out = pathlib.Path(out)
    check_paths(files)
    with open_sources(files, layer=layer) as sources:
        panel, alignments = union_panel([file.name for file in files], [source.genes for source in sources])
        obs = combined_obs(sources, columns)
        identity = Identity(
            panel=panel, columns=columns, layer=layer, seed=seed, checksums=tuple(checksum(file) for file in files)
        )
        existing = _existing(out, identity)
        if existing is not None:
            return existing
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _build(partial, sources, alignments, identity, obs, budget=memory_mb * 2**20, progress=progress)
            (partial / "store").rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _open(out)


def _build(
    folder: pathlib.Path,
    sources: list[Source],
    alignments: list[Alignment],
    identity: "Identity",
    obs: "object",
    *,
    budget: int,
    progress: Progress,
) -> None:
    from data_pipelines.ingestion.shuffle import Buckets, count_blocks, survey
    from data_pipelines.ingestion.tables import manifest, store_var
    from data_pipelines.ingestion.writer import StoreWriter

    folder.mkdir(parents=True)
    # Reading a block and holding a bucket happen one after the other, each with its own copies: a quarter each.
    block_budget = bucket_budget = max(1, budget // 4)
    measured = survey(sources, alignments, budget=block_budget, progress=progress)
    n_cells, n_genes = len(measured.lengths), len(identity.panel)
    order = np.random.default_rng(identity.seed).permutation(n_cells)
    buckets = Buckets(folder / "buckets", order, measured, n_genes, budget=bucket_budget)
    for first, counts in count_blocks(sources, alignments, block_budget):
        buckets.add(first, counts)
        progress("shuffling", first + n_rows(counts), n_cells)
    writer = StoreWriter(folder / "store", (n_cells, n_genes), measured.dtype, measured.entries)
    written = 0
    for cells in buckets.stored_rows():
        writer.append(cells)
        written += n_rows(cells)
        progress("writing", written, n_cells)
    totals = {
        "cells": n_cells,
        "genes": n_genes,
        "entries": measured.entries,
        "counts": measured.total,
        "largest_count": measured.largest,
        "capacity": int(measured.lengths.max()),
    }
    uns = {
        "cell_store": {
            "manifest": json.dumps(manifest(identity, sources, totals), sort_keys=True),
            "measured": np.stack([alignment.measured for alignment in alignments]),
        }
    }
    truth = sources[0].uns("planted_truth") if len(sources) == 1 else None
    if truth is not None:
        uns["planted_truth"] = truth
    writer.finish(obs.iloc[order], store_var(sources, identity.panel), uns)  # type: ignore[attr-defined]


def _existing(out: pathlib.Path, identity: "Identity") -> "CellStore | None":
    """The store at `out` if it is this very one; None if there is nothing.

    Raises:
        InputError: something else is there.
    """
    if not out.exists():
        return None
    try:
        store = _open(out)
    except InputError:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
            return None
        raise InputError(f"{out} exists and is no complete cell store. Remove it, or choose another --out.") from None
    if store.hash == identity.hash:
        return store
    raise InputError(
        f"{out} already holds another cell store (hash {store.hash}; these files and columns give {identity.hash}). "
        "Remove it, or choose another --out."
    )


def _open(out: pathlib.Path) -> "CellStore":
    from data_pipelines.store import CellStore

    return CellStore.open(out)
