"""When a checkpoint is due: every n steps, every n minutes, at a best bound, at the end."""

import time
from collections.abc import Callable

from lingshu_jax.training.config import TrainingConfig

WATCHED = "val_nats"
"""The held-out metric whose lowest value marks the best checkpoint."""


class SaveSchedule:
    """Says at which steps to save. Every process comes to the same answer."""

    def __init__(
        self,
        config: TrainingConfig,
        best: float | None,
        agree: Callable[[bool], bool] = lambda mine: mine,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start the clock.

        Args:
            config: the intervals.
            best: the lowest held-out bound among the checkpoints there are.
            agree: the answer of the first process, for all.
            clock: seconds.
        """
        self._config, self._best, self._agree, self._clock = config, best, agree, clock
        self._saved = clock()

    def due(self, step: int, held_out: dict[str, float]) -> bool:
        """Whether to save before step `step`, given what was just measured on held-out cells, if anything was."""
        value = held_out.get(WATCHED)
        best = value is not None and step > 0 and (self._best is None or value < self._best)
        if best:
            self._best = value
        return best or (step > 0 and step % self._config.save_every == 0) or self._overdue(step)

    def saved(self) -> None:
        """A save was started: minutes count from here."""
        self._saved = self._clock()

    def _overdue(self, step: int) -> bool:
        minutes = self._config.save_minutes
        if minutes is None or step == 0 or step % self._config.log_every:
            return False
        return self._agree(self._clock() - self._saved >= 60 * minutes)
