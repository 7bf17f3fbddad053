"""A request drawn to disk shard by shard: a job that was killed goes on where it stopped, and processes share it."""

# N cells of a request, G genes

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.locks import held
from data_pipelines.npz import read_npz
from data_pipelines.progress import Progress, silent
from data_pipelines.system_errors import named
from experiments.simulation.output import UNS, Contents, stored_provenance, write_contents
from experiments.simulation.request import Request

_PLAN = "plan.json"
_REQUEST = "request"


@dataclasses.dataclass(frozen=True)
class Part:
    """Which of how many processes draws here: shard i belongs to process i mod `processes`."""

    process: int = 0
    processes: int = 1
    barrier: Callable[[str], None] = lambda name: None
    """Returns when all processes have called it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Written:
    """What became of a job."""

    cells: int
    resumed: int = 0
    """Cells that were there from an earlier start."""
    was_there: bool = False
    """The output held exactly these cells already."""


def write_request(
    request: Request,
    out: pathlib.Path,
    *,
    part: Part | None = None,
    progress: Progress = silent,
    begun: Callable[[int], None] = lambda resumed: None,
) -> Written:
    """Draw a request into an h5ad file or zarr folder, in the memory of one block.

    Shards lie in a hidden folder beside `out`, named by the request's hash, until the whole is put together.

    Args:
        request: the cells.
        out: where to.
        part: of several processes, which share the folder of `out`; all return when it is written.
        progress: called as progress(stage, done, total).
        begun: told how many cells were found drawn, before the first one is drawn.

    Raises:
        Interrupted: another process is writing the same.
        OSError: the disk is full or read-only; shards stay.
    """
    part = part or Part()
    if stored_provenance(out).get(_REQUEST) == request.hash:
        part.barrier("looked")
        _discard(_folder(request, out))
        return Written(request.n_cells, was_there=True)
    part.barrier("looked")
    folder = _folder(request, out)
    folder.mkdir(exist_ok=True)
    lock = f"lock-{part.process}"
    busy = f"{out} is being written by another process. Wait for it; a job of another seed can work beside it."
    with held(folder / lock, busy):
        if part.process == 0:
            _write_plan(folder, request)
        part.barrier("planned")
        shards = _Shards(folder, json.loads((folder / _PLAN).read_text())["cells_per_shard"], request)
        resumed = shards.cells_there()
        part.barrier("counted")
        begun(resumed)
        try:
            for number in range(part.process, shards.n, part.processes):
                shards.draw(number, progress)
        except Exception:
            if part.processes == 1 and not shards.cells_there():
                _discard(folder)
            raise
        part.barrier("drawn")
        if part.process == 0:
            _assemble(shards, request, out)
        part.barrier("assembled")
    if part.process == 0:
        _discard(folder)
    return Written(request.n_cells, resumed=resumed)


@dataclasses.dataclass(frozen=True, eq=False)
class _Shards:
    folder: pathlib.Path
    size: int
    request: Request

    @property
    def n(self) -> int:
        return -(-self.request.n_cells // self.size)

    def bounds(self, number: int) -> tuple[int, int]:
        first = number * self.size
        return first, min(first + self.size, self.request.n_cells)

    def path(self, number: int) -> pathlib.Path:
        return self.folder / f"{number:06d}.npz"

    def cells_there(self) -> int:
        return sum(last - first for first, last in (self.bounds(i) for i in range(self.n) if self.path(i).exists()))

    def draw(self, number: int, progress: Progress) -> None:
        """Draw a shard and write it whole, unless it is there."""
        if self.path(number).exists():
            return
        block = self.request.draw(*self.bounds(number), progress)
        block.sort_indices()
        partial = self.folder / f".{number:06d}.{os.getpid()}"
        try:
            with named(partial), partial.open("wb") as file:
                np.savez(
                    file,
                    allow_pickle=False,
                    data=block.data.astype(self.request.dtype, copy=False),
                    indices=block.indices.astype(np.int32, copy=False),
                    indptr=block.indptr.astype(np.int64, copy=False),
                )
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path(number))
        finally:
            partial.unlink(missing_ok=True)

    def read(self) -> Iterator[Any]:
        for number in range(self.n):
            first, last = self.bounds(number)
            parts = self._load(number, ("data", "indices", "indptr"))
            yield scipy.sparse.csr_matrix(parts, shape=(last - first, len(self.request.var)))

    def entries(self) -> int:
        return sum(int(self._load(number, ("indptr",))[0][-1]) for number in range(self.n))

    def _load(self, number: int, names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        path = self.path(number)
        try:
            return tuple(read_npz(path, names).values())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}). Remove it: the same command draws it again.") from error


def _folder(request: Request, out: pathlib.Path) -> pathlib.Path:
    return out.with_name(f".{out.name}.{request.hash}")


def _write_plan(folder: pathlib.Path, request: Request) -> None:
    """The size of a shard stays what it was when the job began, whatever devices it goes on with."""
    if (folder / _PLAN).exists():
        return
    plan = {"request": request.hash, "cells": request.n_cells, "cells_per_shard": request.block}
    partial = folder / f".{_PLAN}"
    partial.write_text(json.dumps(plan))
    partial.replace(folder / _PLAN)


def _assemble(shards: _Shards, request: Request, out: pathlib.Path) -> None:
    contents = Contents(
        obs=request.obs(0, request.n_cells),
        var=request.var,
        blocks=shards.read(),
        entries=shards.entries(),
        dtype=request.dtype,
        uns={UNS: json.dumps({**request.provenance, **request.remarks, _REQUEST: request.hash})},
    )
    write_contents(contents, out, shards.folder / f"whole{out.suffix}")


def _discard(folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
