"""`lingshu train --profile START:STOP`: an XProf trace of some steps, in the run folder."""

import contextlib
import dataclasses
from typing import Any

from data_pipelines.errors import InputError
from experiments.storage import Folder, storage_of


@dataclasses.dataclass(frozen=True)
class ProfiledSteps:
    """Steps start <= n < stop."""

    start: int
    stop: int

    @classmethod
    def parse(cls, text: str) -> "ProfiledSteps":
        """Read START:STOP.

        Raises:
            InputError: these are no two steps in order.
        """
        start, _, stop = text.partition(":")
        if not (start.isdigit() and stop.isdigit() and int(start) < int(stop)):
            raise InputError(f"--profile {text} is no range of steps. Write START:STOP, as 100:105.")
        return cls(int(start), int(stop))

    def check(self, steps: int) -> None:
        """Require that a run of so many steps comes by all of them.

        Raises:
            InputError: it does not.
        """
        if self.stop > steps:
            raise InputError(
                f"--profile {self.start}:{self.stop} reaches beyond the run's last step, {steps - 1:,}. Write "
                f"START:STOP with STOP <= {steps}, or raise --training.steps."
            )


class Profile:
    """Starts and ends the trace as the loop comes to its steps; a context manager, so that an early end closes it."""

    def __init__(self, steps: ProfiledSteps | None, folder: Folder) -> None:
        """No steps, no trace."""
        self._steps, self._folder = steps, folder
        self._writing = contextlib.ExitStack()
        self._running = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def before_step(self, step: int, state: Any) -> None:
        """Told by the loop before each step; what is under way is waited for, so that the trace has whole steps."""
        if self._steps is None:
            return
        import jax

        if self._running and step >= self._steps.stop:
            jax.block_until_ready(state.step)
            self._end()
        elif not self._running and self._steps.start <= step < self._steps.stop:
            jax.block_until_ready(state.step)
            local = self._writing.enter_context(storage_of(self._folder).writing(self._folder))
            jax.profiler.start_trace(str(local))
            self._running = True

    def _end(self) -> None:
        if self._running:
            import jax

            self._running = False
            jax.profiler.stop_trace()
            self._writing.close()
            print(f"profile in {self._folder}; look at it with: xprof --logdir {self._folder}", flush=True)
