"""Watches the loss of every step from the host: skipped steps, too many of them in a row, and spikes."""

import collections
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lingshu_jax.training.config import TrainingConfig

LATE = 4
"""Steps that the host may run ahead of what it has seen."""
WINDOW, FEWEST = 200, 30
"""Losses that a new one is compared with, at most and at least."""


class TooManySkipped(ArithmeticError):
    """So many steps in a row were not finite that going on makes no sense; says which, on which batch."""


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that a person may want to look at: a step, and the batch that makes it again."""

    kind: str
    """`skipped` or `spike`."""
    step: int
    """The step that the batch was for: 1 is the first."""
    batch: dict[str, Any]
    """The loader's state before the batch: `set_state` it to draw the batch again."""
    loss: float
    median: float | None = None
    """Of the losses before."""

    def __str__(self) -> str:
        what = f"loss {self.loss:.4g} stands out, the median before is {self.median or 0.0:.4g}"
        if self.kind == "skipped":
            what = "loss or gradients are not finite, the step is skipped"
        return f"step {self.step:,}: {what}; batch {json.dumps(self.batch)}"


class Watch:
    """Takes each step's loss, and looks at it when it is surely there, without holding up the device."""

    def __init__(self, config: TrainingConfig, notify: Callable[[Event], None]):
        """`notify` is told of skipped steps and spikes."""
        self._config, self._notify = config, notify
        self._pending: collections.deque[tuple[int, dict[str, Any], jax.Array, jax.Array]] = collections.deque()
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)

    def add(self, step: int, batch: dict[str, Any], loss: jax.Array, skipped_in_a_row: jax.Array) -> None:
        """Step number `step` was started on the batch at this position of the stream.

        Raises:
            TooManySkipped: an earlier step was the last one allowed of those in a row.
        """
        loss.copy_to_host_async()
        skipped_in_a_row.copy_to_host_async()
        self._pending.append((step, batch, loss, skipped_in_a_row))
        if len(self._pending) > LATE:
            self._look()

    def drain(self) -> None:
        """Look at every step that was started.

        Raises:
            TooManySkipped: one of them was the last one allowed of those in a row.
        """
        while self._pending:
            self._look()

    def _look(self) -> None:
        step, batch, *values = self._pending.popleft()
        loss, in_a_row = float(values[0]), int(values[1])
        if in_a_row:
            self._notify(Event("skipped", step, batch, loss))
            if in_a_row >= self._config.max_skipped:
                raise TooManySkipped(
                    f"loss or gradients were not finite in {in_a_row} steps in a row, the last one step {step:,} on "
                    f"batch {json.dumps(batch)}"
                )
            return
        median = spikes_above(self._losses, loss, self._config.spike_deviations)
        if median is not None:
            self._notify(Event("spike", step, batch, loss, median))
        self._losses.append(loss)


def spikes_above(before: collections.deque[float], loss: float, deviations: float) -> float | None:
    """The median of the losses before if `loss` stands out above them, else None.

    The deviation is robust: 1.4826 times the median absolute one, and at least a hundredth of the median.
    """
    if deviations == 0 or len(before) < FEWEST or not math.isfinite(loss):
        return None
    values = np.array(before)
    median = float(np.median(values))
    deviation = max(1.4826 * float(np.median(np.abs(values - median))), 0.01 * abs(median))
    return median if loss > median + deviations * deviation else None
