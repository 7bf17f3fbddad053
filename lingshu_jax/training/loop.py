"""The training loop: evaluate, save, next batch, step, log. Checkpoint n is the state before step n."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Protocol

from lingshu_jax.training.checkpoint import Checkpoints
from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.metrics import Meter
from lingshu_jax.training.state import TrainState
from lingshu_jax.training.step import Step


class Batches(Protocol):
    """An endless, positionable stream of this process's rows of global batches."""

    def __next__(self) -> Any: ...

    def state(self) -> dict[str, Any]:
        """Where the stream stands, JSON-serialisable and valid for any number of hosts and workers."""
        ...


class Reporter(Protocol):
    """Where progress and metrics go."""

    def advance(self, step: int) -> None:
        """A step is done."""
        ...

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics at a step."""
        ...


class Outcome(enum.Enum):
    """How a loop ended."""

    FINISHED = "finished"
    STOPPED = "stopped early, saved"


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one training loop works with."""

    config: TrainingConfig
    step: Step
    batches: Batches
    to_device: Callable[[Any], Any]
    """Local numpy batch -> global arrays."""
    evaluate: Callable[[TrainState], dict[str, float]]
    """Held-out metrics of the averaged weights."""
    checkpoints: Checkpoints
    fixed: Any
    meta: dict[str, Any]
    reporter: Reporter
    should_stop: Callable[[], bool]
    """Asked between steps: has somebody asked to save and stop?"""


def run(fit: Fit, state: TrainState) -> tuple[TrainState, Outcome]:
    """Train from the state's step to the last one, or until asked to stop; the end is always saved."""
    config, meter = fit.config, Meter(fit.config.batch_size)
    step = int(state.step)
    while True:
        last, stop = step >= config.steps, fit.should_stop()
        with meter.paused():
            if step % config.evaluate_every == 0 or last:
                fit.reporter.log(step, fit.evaluate(state))
            if (step % config.save_every == 0 and step > 0) or last or stop:
                fit.checkpoints.save(step, state, fit.fixed, fit.batches.state(), fit.meta)
        if last or stop:
            return state, Outcome.FINISHED if last else Outcome.STOPPED
        with meter.waiting_for_data():
            batch = fit.to_device(next(fit.batches))
        state, metrics = fit.step(state, batch)
        step += 1
        meter.add(metrics)
        if step % config.log_every == 0 or step == config.steps:
            fit.reporter.log(step, meter.read())
        fit.reporter.advance(step)
