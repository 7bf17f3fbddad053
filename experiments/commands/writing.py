"""What commands say while they write cells: what was found, what was injected, what is there."""

import pathlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.simulation.request import Request
    from experiments.simulation.shards import Part

_A_WEEK = 7 * 86_400.0
"""Processes wait for the slowest; one that dies ends the others by itself."""


def write(request: "Request", out: pathlib.Path, progress: Any, *, said: Iterable[str] = ()) -> None:
    """Draw a request into `out` and print what came of it, from one process."""
    from experiments.simulation.shards import write_request

    lead = is_leader()
    for line in said if lead else ():
        print(line)

    def begun(resumed: int) -> None:
        if resumed and lead:
            print(f"going on: {resumed:,} of {request.n_cells:,} cells are drawn already", flush=True)

    written = write_request(request, out, part=_part(), progress=progress, begun=begun)
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
        distributed.barrier(name, seconds=_A_WEEK)

    return Part(jax.process_index(), jax.process_count(), barrier)
