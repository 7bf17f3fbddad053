"""Being asked to save and stop: by a signal to the only process, or to any of several."""

import os
import signal
from typing import Any

from jax.experimental import multihost_utils

from experiments.early_stop import stop_early


class StopRequest:
    """Turns SIGTERM and SIGINT into a request to save and stop; a second one ends the process at once."""

    def __enter__(self) -> "StopRequest":
        self._asked = False
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        self._before: dict[int, Any] = {
            number: signal.SIG_DFL if handler is stop_early else handler for number, handler in before.items()
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Asked before step `step`."""
        return self._asked

    def _ask(self, number: int, frame: Any) -> None:
        self._asked = True
        self.__exit__()


class SharedStopRequest:
    """The same for several processes: SIGTERM to any of them stops all before one and the same step.

    jax's preemption service has taken SIGTERM when the processes joined, and finds that step; SIGINT is made into it.
    From that step on, while all save, another signal ends its process at once.
    """

    def __enter__(self) -> "SharedStopRequest":
        self._before: Any = signal.signal(signal.SIGINT, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def requested(self, step: int) -> bool:
        """Asked before step `step`."""
        reached = multihost_utils.reached_preemption_sync_point(step)
        if reached:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return reached
