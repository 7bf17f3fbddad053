"""Ingest: files of raw counts in, one globally shuffled and sharded cell store out, in bounded memory.

The cells of every chunk of input are checked and left on disk in stored order (`runs`); then every shard gathers its
cells from all chunks (`shards`). Both kinds of task are idempotent and run anywhere (`engine`); what is done stays done
when the process is killed (`work`). The store opens when it is complete, and not before.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import Columns
from data_pipelines.errors import InputError, Interrupted
from data_pipelines.ingestion.engine import Engine, Local
from data_pipelines.ingestion.genes import GeneRules
from data_pipelines.ingestion.panel import UNION
from data_pipelines.ingestion.screen import Guides, Screen
from data_pipelines.ingestion.slots import with_slots
from data_pipelines.ingestion.target import existing_store, publish, usable_target, work_folder
from data_pipelines.ingestion.work import Work
from data_pipelines.location import Location
from data_pipelines.progress import Progress, silent

if TYPE_CHECKING:
    from data_pipelines.ingestion.engine import Runner
    from data_pipelines.ingestion.plan import Prepared
    from data_pipelines.ingestion.runs import RunFacts
    from data_pipelines.store import CellStore
    from lingshu_jax.vocabulary import GenePanel

# N cells of all sources in input order

_GENES, _SCREEN, _ENGINE = GeneRules(), Screen(), Local()


def ingest(
    paths: str | pathlib.Path | Iterable[str | pathlib.Path],
    out: str | pathlib.Path,
    *,
    columns: Columns,
    layer: str | None = None,
    panel: "str | GenePanel" = UNION,
    genes: GeneRules = _GENES,
    screen: Screen = _SCREEN,
    guides: Guides | None = None,
    seed: int = 0,
    memory_mb: int = 1024,
    engine: Engine = _ENGINE,
    scratch: str | pathlib.Path | None = None,
    progress: Progress = silent,
) -> "CellStore":
    """Turn files of raw counts into a cell store. Run it again after a kill, and it goes on where it was.

    Args:
        paths: h5ad files, AnnData zarr folders, 10x .h5 files, 10x folders, patterns, or YAML manifests of such.
        out: folder or URL of the store. If it already holds exactly this store, nothing is done.
        columns: what the obs columns mean; kept in the store.
        layer: 'raw.X' or a layer's name; None reads X, or what holds raw counts where X does not.
        panel: 'union' or 'intersection' of the sources' genes, or a given panel.
        genes: how gene ids are compared.
        screen: which cells of a perturbation screen to leave out.
        guides: guide-to-target map, to make the perturbation column from.
        seed: of the global shuffle, and of sub-sampling.
        memory_mb: approximate bound on the memory that counts take at any time, over all workers of a machine.
        engine: where the work is done.
        scratch: folder for what is half done, about 6 bytes per expressed gene of every cell; beside `out` by default.
        progress: called as progress(stage, cells done, cells).

    Returns:
        The open store.

    Raises:
        InputError: the input is unusable, or `out` holds something else. Nothing is left behind.
    """
    from data_pipelines.ingestion.inputs import find_inputs
    from data_pipelines.ingestion.plan import prepare
    from data_pipelines.ingestion.source import open_sources
    from data_pipelines.store import CellStore

    target = usable_target(out)
    work = Work(work_folder(target, scratch))
    engine = Local() if target.in_memory else engine
    inputs, notes = with_slots(find_inputs(paths, layer=layer))
    with open_sources(inputs) as sources, engine.open() as (runner, workers):
        prepared = prepare(sources, columns, panel, genes, screen, guides=guides, seed=seed, runner=runner)
        existing = existing_store(target, prepared.identity.hash)
        if existing is not None:
            work.remove_leftover(prepared.identity.hash)
            return existing
        with _removed_when_refused(work), work.locked():
            if (work.plan() or {}).get("identity") != prepared.identity.hash:
                prepared.start(work, memory_mb * 2**20 // workers, runner, progress)
            _build(work, target, prepared, notes, runner, progress)
    work.remove()
    return CellStore.open(target)


def _build(
    work: Work, target: Location, prepared: "Prepared", notes: Sequence[str], runner: "Runner", progress: Progress
) -> None:
    """Everything after the plan. Whatever is there already is kept."""
    from data_pipelines.ingestion.runs import write_runs

    plan = work.plan()
    assert plan is not None
    work.clear_unfinished()
    # While it grows the store lies in the work folder, or where it belongs if that cannot be renamed.
    store = Location(work.path / "store") if target.path is not None else target
    if not store.exists("zarr.json"):  # the root comes last: with it the store is finished
        facts: list[RunFacts] = []
        for fact in runner.run(write_runs, [(work, number) for number in range(len(plan["chunks"]))]):
            facts.append(fact)
            progress("shuffling", sum(f.cells for f in facts), prepared.n_cells)
        _write(store, work, prepared, facts, notes, runner, progress)
    if target.path is not None:
        publish(work.path / "store", target.path, prepared.identity.hash)


def _write(
    store: Location,
    work: Work,
    prepared: "Prepared",
    facts: "Sequence[RunFacts]",
    notes: Sequence[str],
    runner: "Runner",
    progress: Progress,
) -> None:
    """The store itself, from the sorted runs of all chunks."""
    from data_pipelines.ingestion.shards import BYTES_PER_ENTRY, ShardTask, write_shards
    from data_pipelines.ingestion.writer import SHARD, complete, lay_out

    plan, totals = work.plan(), prepared.totals(work, facts)
    assert plan is not None
    dtype = np.dtype(np.uint16 if totals["largest_count"] <= np.iinfo(np.uint16).max else np.uint32)
    lay_out(store, (totals["cells"], totals["genes"]), dtype, totals["entries"], shard=SHARD)
    shards, together = -(-totals["entries"] // SHARD), max(1, plan["chunk_bytes"] // (BYTES_PER_ENTRY * SHARD))
    tasks = [
        ShardTask(work, store, first, min(first + together, shards), SHARD) for first in range(0, shards, together)
    ]
    written = 0
    for elements in runner.run(write_shards, tasks):
        written += elements
        progress("writing", totals["cells"] * written // max(1, totals["entries"]), totals["cells"])
    complete(store, np.load(work.path / "indptr.npy"), *prepared.tables(work, totals, notes))


@contextlib.contextmanager
def _removed_when_refused(work: Work) -> Iterator[None]:
    """Input that cannot be used leaves nothing behind; anything else (no space, a kill) leaves what is done."""
    made = [folder for folder in work.path.parents if not folder.exists()]
    try:
        yield
    except InputError as error:
        if not isinstance(error, Interrupted):
            work.remove()
            for folder in made:
                folder.rmdir()
        raise
