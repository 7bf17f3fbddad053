"""The end of a run's metrics, without reading what comes before: how far it is, and its last held-out bound."""

import dataclasses
import os
from typing import Any

from experiments.runs import RunFolder, metrics_entry
from lingshu_jax.buckets import in_bucket

_TAIL = 2**12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    val_nats: float | None = None
    """The last held-out bound, nats per cell."""


def read_progress(run: RunFolder) -> Progress:
    """Where a run stands; of a long file only as much is read, from its end, as tells."""
    size = _TAIL
    while True:
        content, whole = _tail(run, size)
        entries = [entry for line in content.splitlines() if (entry := metrics_entry(line)) is not None]
        bounds = [entry["val_nats"] for entry in entries if "val_nats" in entry]
        if whole or (bounds and entries):
            return Progress(step=_last_step(entries), val_nats=bounds[-1] if bounds else None)
        size *= 16


def _last_step(entries: list[dict[str, Any]]) -> int:
    return max((entry["step"] for entry in entries), default=0)


def _tail(run: RunFolder, size: int) -> tuple[bytes, bool]:
    """The last whole lines within so many bytes, and whether that is all of them."""
    if in_bucket(run.path):
        return (run.metrics.read_bytes() if run.metrics.exists() else b""), True
    try:
        with open(run.metrics, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - size))
            content = file.read()
    except FileNotFoundError:
        return b"", True
    if length <= size:
        return content, True
    return content.partition(b"\n")[2], False
