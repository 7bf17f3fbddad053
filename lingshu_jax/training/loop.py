"""The training loop: evaluate, save, next batch, step, log. Checkpoint n is the state before step n."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Protocol

from lingshu_jax.training.checkpoint import Checkpoints
from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.metrics import DATA, EVALUATION, SAVING, Meter
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

    def account(self, seconds: dict[str, float]) -> None:
        """Time that passed since the last call: of useful steps, and lost by cause."""
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
    before_step: Callable[[int, TrainState], None] = lambda step, state: None
    """Told before each step: a profile starts and ends here."""


def run(fit: Fit, state: TrainState) -> tuple[TrainState, Outcome]:
    """Train from the state's step to the last one, or until asked to stop; the end is always saved."""
    config, meter = fit.config, Meter(fit.config.batch_size)
    step = int(state.step)
    while True:
        last, stop = step >= config.steps, fit.should_stop()
        if step % config.evaluate_every == 0 or last:
            with meter.lost(EVALUATION):
                held_out = fit.evaluate(state)
            fit.reporter.account(meter.spent())
            fit.reporter.log(step, held_out)
        if (step % config.save_every == 0 and step > 0) or last or stop:
            with meter.lost(SAVING):
                fit.checkpoints.save(step, state, fit.fixed, fit.batches.state(), fit.meta)
        if last or stop:
            fit.reporter.account(meter.spent())
            return state, Outcome.FINISHED if last else Outcome.STOPPED
        with meter.lost(DATA):
            batch = fit.to_device(next(fit.batches))
        fit.before_step(step, state)
        with meter.stepping():
            state, metrics = fit.step(state, batch)
        step += 1
        meter.add(metrics)
        if step % config.log_every == 0 or step == config.steps:
            measured = meter.read()
            fit.reporter.account(meter.spent())
            fit.reporter.log(step, measured)
        fit.reporter.advance(step)
