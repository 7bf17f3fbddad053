"""The training loop: evaluate, save, next batch, step, log. Checkpoint n is the state before step n."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Protocol

from lingshu_jax.parallel.distributed import several
from lingshu_jax.training.checkpoint import Checkpoints, SaveFailed
from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.metrics import DATA, EVALUATION, SAVING, Meter
from lingshu_jax.training.saving import SaveSchedule
from lingshu_jax.training.state import TrainState
from lingshu_jax.training.step import Step
from lingshu_jax.training.watch import Event, Watch


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

    def note(self, event: Event) -> None:
        """A step that a person may want to look at."""
        ...

    def warn(self, line: str) -> None:
        """Something that did not work, and that training goes on without."""
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
    should_stop: Callable[[int], bool]
    """Asked before every step: has somebody asked to save and stop? All processes get the same answer."""
    agree: Callable[[bool], bool] = lambda mine: mine
    """The first process's answer, for all."""
    before_step: Callable[[int, TrainState], None] = lambda step, state: None
    """Told before each step: a profile starts and ends here."""


def run(fit: Fit, state: TrainState) -> tuple[TrainState, Outcome]:
    """Train from the state's step to the last one, or until asked to stop; the end is always saved.

    A save that fails on the way is told of and left out: the next one that is due may work.

    Raises:
        SaveFailed: the end could not be saved, or a save of several processes failed.
        TooManySkipped: the loss is not finite any more.
    """
    config, meter = fit.config, Meter(fit.config.batch_size)
    watch, schedule = Watch(config, fit.reporter.note), SaveSchedule(config, fit.checkpoints.best(), fit.agree)
    step = int(state.step)
    while True:
        last, stop, held_out = step >= config.steps, fit.should_stop(step), {}
        if step % config.evaluate_every == 0 or last:
            with meter.lost(EVALUATION):
                held_out = fit.evaluate(state)
            fit.reporter.account(meter.spent())
            fit.reporter.log(step, held_out)
        if schedule.due(step, held_out) or last or stop:
            with meter.lost(SAVING):
                watch.drain()
                _save(fit, step, state, held_out, last or stop)
                schedule.saved()
        if last or stop:
            fit.reporter.account(meter.spent())
            return state, Outcome.FINISHED if last else Outcome.STOPPED
        with meter.lost(DATA):
            place = fit.batches.state()
            batch = fit.to_device(next(fit.batches))
        fit.before_step(step, state)
        with meter.stepping():
            state, metrics = fit.step(state, batch)
        step += 1
        watch.add(step, place, metrics["loss"], metrics.pop("skipped_in_a_row"))
        meter.add(metrics)
        if step % config.log_every == 0 or step == config.steps:
            watch.drain()
            measured = meter.read()
            fit.reporter.account(meter.spent())
            fit.reporter.log(step, measured)
        fit.reporter.advance(step)


def _save(fit: Fit, step: int, state: TrainState, held_out: dict[str, float], end: bool) -> None:
    """Start a save; at the end, see it through. What fails at first may have been the save before."""
    for again in (True, False):
        try:
            fit.checkpoints.save(step, state, fit.fixed, fit.batches.state(), fit.meta, held_out)
            if end:
                fit.checkpoints.wait()
            return
        except SaveFailed as error:
            if several() or (end and not again):
                raise
            fit.reporter.warn(f"{error}. Training goes on; the next save tries again.")
