"""Means of step metrics, throughput, and the share of time spent waiting for data."""

import contextlib
import time
from collections.abc import Iterator

import jax
import numpy as np

STEPS_IN_FLIGHT = 4
"""How far the host may run ahead of the device."""


class Meter:
    """Collects what happens between two readings; metrics stay on the device until they are read."""

    def __init__(self, batch_size: int):
        """Start the clock of the first interval."""
        self._batch_size = batch_size
        self._restart()

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """The metrics of one step."""
        self._metrics.append(metrics)
        if len(self._metrics) >= STEPS_IN_FLIGHT:
            jax.block_until_ready(self._metrics[-STEPS_IN_FLIGHT])

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside (an evaluation, a save) is left out of the rate."""
        if self._metrics:
            jax.block_until_ready(self._metrics[-1])
        begin = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begin

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """The loop waits for its next batch inside."""
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def read(self) -> dict[str, float]:
        """Means since the last reading, cells per second, and the share of the time spent on data."""
        values = jax.device_get(self._metrics)
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        means = {name: _mean(np.array([step[name] for step in values])) for name in values[0]}
        rates = {"cells_per_second": len(values) * self._batch_size / seconds, "data_wait": self._waited / seconds}
        self._restart()
        return means | rates

    def _restart(self) -> None:
        self._metrics: list[dict[str, jax.Array]] = []
        self._start = time.perf_counter()
        self._paused = self._waited = 0.0


def _mean(values: np.ndarray) -> float:
    """Of those that are finite, if any is: a skipped step has no loss."""
    finite = values[np.isfinite(values)]
    return float(np.mean(finite if len(finite) else values))
