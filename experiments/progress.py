"""What long work shows: a bar with rate and time left on a terminal, one plain line per interval elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 15.0


UNITS = {
    "distribution metrics": "sides",
    "perturbation effects": "conditions",
    "likelihood baselines": "baselines",
    "down-regulated genes": "conditions",
    "joint UMAP": "maps",
}
"""What stages count that do not count cells."""


class StageProgress:
    """A `data_pipelines.progress.Progress`: call it with (stage, done, total); use it as a context manager."""

    def __init__(self, unit: str = "cells"):
        """`unit` is what is counted."""
        self._unit = unit
        self._bars = _bars() if sys.stderr.isatty() else None
        self._tasks: dict[str, Any] = {}
        self._begun: dict[str, float] = {}
        self._last_line = 0.0

    def __enter__(self) -> "StageProgress":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` are through a stage."""
        self._begun.setdefault(stage, time.monotonic())
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, unit=UNITS.get(stage, self._unit))
            self._bars.update(self._tasks[stage], completed=done, total=total)
            return
        now = time.monotonic()
        long_enough = now - self._begun[stage] >= LINE_EVERY_SECONDS
        if long_enough and (done >= total or now - self._last_line >= LINE_EVERY_SECONDS):
            self._last_line = now
            print(
                _line(stage, done, total, UNITS.get(stage, self._unit), now - self._begun[stage]),
                file=sys.stderr,
                flush=True,
            )


def _line(stage: str, done: int, total: int, unit: str, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    if not done:
        return f"{stage}: 0/{total:,} {unit} after {duration(seconds)}"
    left = duration((total - done) / rate)
    per_second = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    return f"{stage}: {done:,}/{total:,} {unit}, {per_second} {unit}/s, {left} left"


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 10 min."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
