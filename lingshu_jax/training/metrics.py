"""Means of step metrics, throughput, and where the time went: useful steps, and what kept from them."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import jax
import numpy as np

STEPS_IN_FLIGHT = 4
"""How far the host may run ahead of the device."""
USEFUL = "steps"
START, DATA, EVALUATION, SAVING = "start", "data", "evaluation", "saving"
"""Causes of lost time: compiling the first step, waiting for the loader, held-out bounds, checkpoints."""


class Meter:
    """Collects what happens between two readings; metrics stay on the device until they are read."""

    def __init__(self, batch_size: int):
        """Start the clock of the first interval."""
        self._batch_size = batch_size
        self._compiled = False
        self._metrics: list[dict[str, jax.Array]] = []
        self._interval, self._account = _Clock(), _Clock()

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """The metrics of one step."""
        self._metrics.append(metrics)
        if len(self._metrics) >= STEPS_IN_FLIGHT:
            jax.block_until_ready(self._metrics[-STEPS_IN_FLIGHT])

    @contextlib.contextmanager
    def lost(self, cause: str) -> Iterator[None]:
        """What happens inside is no step. Steps under way are waited for first, so that none hides in it."""
        if cause != DATA and self._metrics:
            jax.block_until_ready(self._metrics[-1])
        begin = time.perf_counter()
        yield
        seconds = time.perf_counter() - begin
        self._interval.lost[cause] += seconds
        self._account.lost[cause] += seconds

    def stepping(self) -> contextlib.AbstractContextManager[None]:
        """A step is dispatched inside. The first one is compiled there: time that is lost."""
        first, self._compiled = not self._compiled, True
        return self.lost(START) if first else contextlib.nullcontext()

    def read(self) -> dict[str, float]:
        """Means since the last reading, and the rate of the steps: without evaluation, saving and compiling."""
        values = jax.device_get(self._metrics)
        lost = self._interval.lost
        seconds = max(self._interval.elapsed() - sum(lost.values()) + lost[DATA], 1e-9)
        means = {name: _mean(np.array([step[name] for step in values])) for name in values[0]}
        self._metrics, self._interval = [], _Clock()
        return means | {
            "step_seconds": seconds / len(values),
            "cells_per_second": len(values) * self._batch_size / seconds,
            "data_wait": lost[DATA] / seconds,
        }

    def spent(self) -> dict[str, float]:
        """Seconds since this was last asked: of useful steps, and lost by cause; together the time that passed."""
        clock, self._account = self._account, _Clock()
        return {USEFUL: clock.elapsed() - sum(clock.lost.values()), **clock.lost}


class _Clock:
    """Time since it was made, and how much of it was lost to what."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self.lost: dict[str, float] = defaultdict(float)

    def elapsed(self) -> float:
        return time.perf_counter() - self._begin


def _mean(values: np.ndarray) -> float:
    """Of those that are finite, if any is: a skipped step has no loss."""
    finite = values[np.isfinite(values)]
    return float(np.mean(finite if len(finite) else values))
