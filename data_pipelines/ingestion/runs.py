"""First half of the global shuffle: read a chunk of a source, check it, and leave its cells on disk in stored order.

Such a sorted run holds any range of stored rows as one contiguous piece.
"""

import dataclasses
import itertools
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse

from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import BYTES_PER_ENTRY, n_rows
from data_pipelines.ingestion.source import open_source
from data_pipelines.ingestion.work import Chunk, Work
from data_pipelines.system_errors import save_array

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

    def cells(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Stored rows (n,), row pointers (n + 1,), genes (z,) and counts (z,) of cells with stored rows low..high-1."""
        rows, ends = self.rows(), self.ends()
        first, last = (int(place) for place in np.searchsorted(rows, (low, high)))
        start, stop = int(ends[first]), int(ends[last])
        genes, counts = (np.load(self.path / f"{name}.npy", mmap_mode="r") for name in ("genes", "counts"))
        pointers = np.asarray(ends[first : last + 1]) - start
        return np.array(rows[first:last]), pointers, np.array(genes[start:stop]), np.array(counts[start:stop])


@dataclasses.dataclass(frozen=True)
class Cells:
    """Checked and aligned cells in memory, in as few bytes as their values take."""

    rows: np.ndarray
    """int64 (n,), stored rows; -1 for cells that are left out."""
    indptr: np.ndarray
    """(n + 1,), row pointers."""
    genes: np.ndarray
    """(z,), panel positions, sorted within a cell."""
    counts: np.ndarray
    """(z,), unsigned."""


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
    """Task: sort the cells of one chunk into a run. What is done already is kept.

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
    destination = work.destination()
    facts: list[RunFacts] = []
    waiting: list[Cells] = []
    most = plan["chunk_bytes"] // BYTES_PER_ENTRY
    with open_source(Input(path=pathlib.Path(source["path"]), layer=source["layer"])) as opened:
        for first, block in opened.matrix.blocks(plan["chunk_bytes"], chunk.first, chunk.last, scratch=partial):
            counts = raw_counts(block, first=first, where=opened.where, slots=opened.other_slots)
            where = chunk.offset + first
            rows = np.array(destination[where : where + n_rows(block)])
            cells = _narrow(rows, alignment.align(counts, where=opened.where), plan["genes"])
            # A matrix that can only be read whole is more than one run.
            if waiting and sum(len(some.genes) for some in [*waiting, cells]) > most:
                facts.append(_write_run(partial / str(len(facts)), waiting))
                waiting = []
            waiting.append(cells)
    facts.append(_write_run(partial / str(len(facts)), waiting))
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


def _narrow(rows: np.ndarray, counts: scipy.sparse.csr_matrix, n_genes: int) -> Cells:
    largest = int(counts.data.max(initial=0))
    return Cells(
        rows=rows,
        indptr=counts.indptr,
        genes=counts.indices.astype(np.min_scalar_type(n_genes)),
        counts=counts.data.astype(np.min_scalar_type(largest)),
    )


def _write_run(folder: pathlib.Path, parts: Sequence[Cells]) -> RunFacts:
    """Write the cells that are kept, in stored order."""
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])[order]
    folder.mkdir()
    save_array(folder / "rows.npy", rows[order])
    save_array(folder / "ends.npy", np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    save_array(folder / "genes.npy", _in_order([(part.genes, part.indptr) for part in parts], order))
    counts = _in_order([(part.counts, part.indptr) for part in parts], order)
    save_array(folder / "counts.npy", counts)
    return RunFacts(
        cells=len(rows), largest=int(counts.max(initial=0)), total=int(counts.sum(dtype=np.int64)), entries=len(counts)
    )


def _in_order(parts: Sequence[tuple[np.ndarray, np.ndarray]], order: np.ndarray) -> np.ndarray:
    """Rows of several CSR arrays (values, row pointers), counted through all of them, row after row."""
    rows = [values[start:end] for values, indptr in parts for start, end in itertools.pairwise(indptr.tolist())]
    # A copy per row is several times faster than a gather per entry.
    return np.concatenate([parts[0][0][:0], *(rows[row] for row in order.tolist())])
