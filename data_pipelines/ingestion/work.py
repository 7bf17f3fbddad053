"""The folder in which a store is made: its plan, what is done already, and a lock, so that a killed ingest goes on."""

import contextlib
import dataclasses
import glob
import json
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import Interrupted
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.panel import Alignment
from data_pipelines.location import Location
from data_pipelines.locks import held
from data_pipelines.system_errors import save_array

if TYPE_CHECKING:
    from data_pipelines.ingestion.source import Source

# N cells of all sources in input order, g genes of one source


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A range of rows of one source: the unit of reading."""

    source: int
    first: int
    last: int
    offset: int
    """Input row of the source's first row."""


def chunks_of(sources: "Sequence[Source]", budget: int) -> list[Chunk]:
    """All rows of some open sources in ranges, each a block of about `budget` bytes."""
    offsets = np.cumsum([0, *(source.n_cells for source in sources)])[:-1].tolist()
    return [
        Chunk(number, first, last, offset)
        for number, (source, offset) in enumerate(zip(sources, offsets, strict=True))
        for first, last in source.matrix.chunks(budget)
    ]


_RENAMED = re.compile(r"\.[0-9a-f]{8}")


@dataclasses.dataclass(frozen=True)
class Work:
    """A work folder. Cheap to send to another process, which must see the same path."""

    path: pathlib.Path

    def start(
        self,
        identity: str,
        inputs: Sequence[Input],
        alignments: Sequence[Alignment],
        chunks: Sequence[Chunk],
        destination: np.ndarray,
        chunk_bytes: int,
        left_out: dict[str, int],
    ) -> None:
        """Write the plan. What a work folder of another identity holds is thrown away.

        Args:
            identity: hash of what the store is made of.
            inputs: the sources.
            alignments: their genes.
            chunks: ranges of rows, together all rows.
            destination: int64 (N,), the stored row of every input row; -1 for cells that are left out.
            chunk_bytes: about what a chunk takes in memory.
            left_out: filter -> cells it left out.
        """
        clear(self.path)
        self.runs.mkdir(parents=True)
        save_array(self.path / "destination.npy", destination)
        for number, alignment in enumerate(alignments):
            save_array(self.path / f"positions-{number}.npy", alignment.positions)
        plan = {
            "identity": identity,
            "genes": alignments[0].n_genes,
            "chunk_bytes": chunk_bytes,
            "left_out": left_out,
            "sources": [{"path": os.path.abspath(one.path), "layer": one.layer} for one in inputs],
            "chunks": [dataclasses.astuple(chunk) for chunk in chunks],
        }
        # Written last, and whole: with it the folder can be gone on with.
        Location(self.path).write("plan.json", json.dumps(plan).encode())

    def plan(self) -> dict[str, Any] | None:
        """The plan, or None where there is none yet."""
        try:
            return json.loads((self.path / "plan.json").read_text())
        except (OSError, ValueError):
            return None

    @property
    def runs(self) -> pathlib.Path:
        """Folder of the sorted runs, one folder per chunk."""
        return self.path / "runs"

    def destination(self) -> np.ndarray:
        """int64 (N,), read as needed."""
        return np.load(self.path / "destination.npy", mmap_mode="r")

    def alignment(self, source: int, n_genes: int) -> Alignment:
        """Where a source's genes lie."""
        return Alignment(np.load(self.path / f"positions-{source}.npy"), n_genes)

    def finished_chunks(self) -> set[int]:
        """Chunks whose sorted runs are complete."""
        return {int(folder.name) for folder in self.runs.iterdir() if folder.name.isdigit()}

    def clear_unfinished(self) -> None:
        """Delete what killed workers left of chunks that they had not finished."""
        for folder in self.runs.glob(".*"):
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder and its lock."""
        # Under another name first: a worker that has not heard of the end cannot add to what is being deleted.
        gone = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._remove_renamed()

    def _remove_renamed(self) -> None:
        """Delete what killed processes were deleting."""
        for folder in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):
            if _RENAMED.fullmatch(folder.name.removeprefix(self.path.name)):
                shutil.rmtree(folder, ignore_errors=True)

    def remove_leftover(self, identity: str) -> None:
        """Delete the folder if it is of this identity, whose store is finished: a kill came before it was deleted."""
        self._remove_renamed()
        if (self.plan() or {}).get("identity") == identity:
            with contextlib.suppress(Interrupted), self.locked():
                self.remove()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone.

        Raises:
            Interrupted: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with held(
            self.path / "lock",
            f"another ingest is at work in {self.path}. Wait for it, or stop it and start again.",
        ):
            yield


def clear(folder: pathlib.Path) -> None:
    """Delete everything in a folder but its lock."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()
