"""What commands say while they write cells: what was found, what was injected, what is there."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError
from experiments.storage import Folder, storage_of
from lingshu_jax.buckets import in_bucket

if TYPE_CHECKING:
    from experiments.simulation.request import Request
    from experiments.simulation.shards import Part

A_WEEK = 7 * 86_400.0
"""Processes wait for the slowest; one that dies ends the others by itself."""


def write(request: "Request", out: Folder, progress: Any, *, said: Iterable[str] = ()) -> None:
    """Draw a request into `out` and print what came of it, from one process.

    Raises:
        InputError: several processes are to write together into a bucket.
    """
    from experiments.simulation.shards import write_request

    lead, part = is_leader(), _part()
    if in_bucket(out) and part.processes > 1:
        raise InputError(f"several processes cannot share {out}. Pass --out FILE.h5ad in a folder that all see.")
    if in_bucket(out) and out.exists():  # it is named by the request
        print(f"{out} holds these cells already")
        return
    for line in said if lead else ():
        print(line)

    def begun(resumed: int) -> None:
        if resumed and lead:
            print(f"going on: {resumed:,} of {request.n_cells:,} cells are drawn already", flush=True)

    with storage_of(out).writing(out) as file:
        written = write_request(request, file, part=part, progress=progress, begun=begun)
    if not lead:
        return
    if written.was_there:
        print(f"{out} holds these cells already")
    else:
        print(f"{out}: {written.cells:,} cells x {len(request.var):,} genes, {request.description}")


def is_leader() -> bool:
    """Whether this process is the one that speaks."""
    several = sys.modules.get("lingshu_jax.parallel.distributed")
    return several is None or several.is_leader()


def _part() -> "Part":
    from experiments.simulation.shards import Part

    distributed = sys.modules.get("lingshu_jax.parallel.distributed")
    if distributed is None or not distributed.several():
        return Part()

    import jax

    def barrier(name: str) -> None:
        distributed.barrier(name, seconds=A_WEEK)

    return Part(jax.process_index(), jax.process_count(), barrier)
