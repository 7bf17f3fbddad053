"""First half of the global shuffle: read a chunk of a source, check it, and leave its cells on disk in stored order.

Such a sorted run holds any range of stored rows as one contiguous piece.
"""

import dataclasses
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator

import numpy as np
import scipy.sparse

from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import n_rows
from data_pipelines.ingestion.source import open_source
from data_pipelines.ingestion.work import Chunk, Work

# n cells of a run, z expressed (cell, gene) pairs


@dataclasses.dataclass(frozen=True)
class Run:
    """Cells sorted by stored row: a folder of arrays that are read as needed."""

    path: pathlib.Path

    def rows(self) -> np.ndarray:
        """int64 (n,), stored rows, strictly increasing."""
        return np.load(self.path / "rows.npy", mmap_mode="r")

    def ends(self) -> np.ndarray:
        """int64 (n + 1,), row pointers into genes and counts."""
        return np.load(self.path / "ends.npy", mmap_mode="r")

    def cells(self, low: int, high: int, n_genes: int) -> tuple[np.ndarray, scipy.sparse.csr_matrix]:
        """Stored rows and counts of the cells whose stored row lies in low..high-1."""
        rows, ends = self.rows(), self.ends()
        first, last = (int(place) for place in np.searchsorted(rows, (low, high)))
        start, stop = int(ends[first]), int(ends[last])
        genes, counts = (np.load(self.path / f"{name}.npy", mmap_mode="r") for name in ("genes", "counts"))
        # 32 bits, or scipy would make the columns 64 bits wide.
        indptr = (np.asarray(ends[first : last + 1]) - start).astype(np.int32)
        arrays = (np.array(counts[start:stop]), np.array(genes[start:stop]), indptr)
        return np.array(rows[first:last]), scipy.sparse.csr_matrix(arrays, shape=(last - first, n_genes))


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What one chunk adds to the totals."""

    cells: int
    """Input rows read, those that are left out included."""
    largest: int
    """Largest count."""
    total: int
    """Sum of all counts."""
    entries: int
    """Expressed (cell, gene) pairs."""


def write_runs(arguments: tuple[Work, int]) -> RunFacts:
    """Task: sort the cells of one chunk into runs, one per block that is read. What is done already is kept.

    Raises:
        InputError: a value is no raw count, or the file is damaged.
    """
    work, number = arguments
    done = work.runs / str(number)
    if done.is_dir():
        return facts_of(done)
    plan = work.plan()
    assert plan is not None
    chunk = Chunk(*plan["chunks"][number])
    source = plan["sources"][chunk.source]
    alignment = work.alignment(chunk.source, plan["genes"])
    partial = work.runs / f".{number}.{uuid.uuid4().hex[:8]}"
    partial.mkdir()
    facts: list[RunFacts] = []
    with open_source(Input(path=pathlib.Path(source["path"]), layer=source["layer"])) as opened:
        for first, block in opened.matrix.blocks(plan["chunk_bytes"], chunk.first, chunk.last):
            counts = raw_counts(block, first=first, where=opened.where, slots=opened.other_slots)
            where = chunk.offset + first
            rows = np.array(work.destination()[where : where + n_rows(block)])
            facts.append(_write_run(partial / str(len(facts)), rows, alignment.align(counts)))
    total = RunFacts(
        cells=sum(fact.cells for fact in facts),
        largest=max(fact.largest for fact in facts),
        total=sum(fact.total for fact in facts),
        entries=sum(fact.entries for fact in facts),
    )
    (partial / "facts.json").write_text(json.dumps(dataclasses.asdict(total)))
    try:
        partial.rename(done)
    except OSError:
        shutil.rmtree(partial)  # another worker had the same task and was faster
        if not done.is_dir():
            raise
    return total


def runs_of(work: Work) -> Iterator[Run]:
    """All runs, in input order."""
    for number in sorted(work.finished_chunks()):
        parts = [folder for folder in (work.runs / str(number)).iterdir() if folder.is_dir()]
        yield from (Run(folder) for folder in sorted(parts, key=lambda folder: int(folder.name)))


def facts_of(done: pathlib.Path) -> RunFacts:
    """The totals of a finished chunk."""
    return RunFacts(**json.loads((done / "facts.json").read_text()))


def _write_run(folder: pathlib.Path, rows: np.ndarray, counts: scipy.sparse.csr_matrix) -> RunFacts:
    """Write the cells that are kept, in stored order."""
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    cells = counts[order]
    largest = int(cells.data.max(initial=0))
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    folder.mkdir()
    np.save(folder / "rows.npy", rows[order])
    np.save(folder / "ends.npy", cells.indptr.astype(np.int64))
    np.save(folder / "genes.npy", cells.indices.astype(np.int32, copy=False))
    np.save(folder / "counts.npy", cells.data.astype(dtype))
    return RunFacts(len(rows), largest, int(cells.data.sum(dtype=np.int64)), len(cells.data))
