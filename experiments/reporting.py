"""Training metrics: one line of metrics.jsonl per interval, a bar on a terminal, plain lines elsewhere."""

import dataclasses
import resource
import sys
import time
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.flops import StepFlops
from experiments.goodput import Goodput
from experiments.hardware import Hardware
from experiments.progress import duration
from experiments.runs import RunFolder
from experiments.storage import storage_of
from lingshu_jax.training.watch import Event


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What turns a run's raw metrics into figures that can be compared."""

    steps: int
    genes: int
    """Nats per gene times this is nats per cell."""
    flops: StepFlops
    """Of one global step."""
    hardware: Hardware

    def utilisation(self, step_seconds: float) -> dict[str, float]:
        """Model and hardware FLOPs utilisation; nothing where the device's peak is not known.

        MFU = FLOPs of a step as the paper writes it / (step seconds x devices x published dense bf16 peak). HFU counts
        what is executed instead: fused gene layers, and blocks that are computed again.
        """
        if self.hardware.chip is None:
            return {}
        whole = step_seconds * self.hardware.devices * self.hardware.chip.peak_flops
        return {"mfu": self.flops.naive / whole, "hfu": self.flops.executed / whole}


SILENCE_SECONDS = 60.0
"""Away from a terminal, the longest time without a line."""


class TrainingReporter:
    """Writes and shows the metrics of a run; a resumed run's later lines are replaced, not repeated."""

    def __init__(self, run: RunFolder, scale: Scale, *, started: float):
        """`started` is the `time.monotonic()` at which the work on this run began."""
        self._run, self._scale, self._started = run, scale, started
        self._lines = storage_of(run.path).lines(run.metrics)
        self._seconds_before = 0.0
        self._goodput = Goodput()
        self._bar: Progress | None = None

    def __enter__(self) -> "TrainingReporter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: int) -> None:
        """Training starts, or goes on, at this step."""
        entries = self._run.read_metrics()
        kept = [entry for entry in entries if entry["step"] <= step]
        self._seconds_before = max((entry.get("seconds", 0.0) for entry in kept), default=0.0)
        self._begin = time.monotonic()
        preparing = self._begin - self._started
        self._goodput = Goodput.resumed(entries, kept, time.time() - preparing).started(preparing)
        # At its own step a resumed run evaluates again; the line that is there already would stand twice.
        kept = [entry for entry in kept if entry["step"] < step or "val_nats" not in entry]
        self._lines.restart(kept)
        self._first, self._last, self._said = step + 1, (step, self._begin), self._begin
        where = f"resumes at step {step:,}" if step else "starts"
        print(f"run {self._run.path} {where}, {self._scale.steps:,} steps in all", flush=True)
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("train", total=self._scale.steps, completed=step, note="compiling")
            self._bar.start()

    def advance(self, step: int) -> None:
        """A step is done."""
        if step == self._first:  # what is left is told by steps, not by compiling
            self._last = (step, time.monotonic())
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            return
        now = time.monotonic()
        if step == self._first:
            self._say(f"step {step:,}/{self._scale.steps:,}  compiled and running {duration(now - self._begin)} later")
        elif now - self._said > SILENCE_SECONDS:
            self._say(f"step {step:,}/{self._scale.steps:,}")

    def account(self, seconds: dict[str, float]) -> None:
        """Time that passed: of useful steps, and lost by cause."""
        self._goodput = self._goodput.plus(seconds)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics, and show what is worth reading of them."""
        if not metrics:
            return
        elapsed = time.monotonic() - self._begin
        entry: dict[str, Any] = {"step": step, "seconds": round(self._seconds_before + elapsed, 3), **metrics}
        if "loss" in metrics:
            entry["train_nats"] = metrics["loss"] * self._scale.genes
            entry |= self._scale.utilisation(metrics["step_seconds"]) | memory_high_water()
        self._write(entry | self._goodput.entry())
        line = self._line(step, entry)
        if self._bar is None:
            self._say(line)
        elif "val_nats" in entry:
            self._bar.console.print(line)
        else:
            self._bar.update(self._task, note=f"{entry['train_nats']:,.1f} nats/cell")

    def finish(self, step: int) -> None:
        """The loop has ended, and everything is saved."""
        self._write({"step": step, **self._goodput.entry()})
        if self._bar is not None:
            self._bar.stop()
        print(f"step {step:,}/{self._scale.steps:,}  {self._goodput.line()}", flush=True)

    def note(self, event: Event) -> None:
        """Record and show a step that was skipped or whose loss stands out, with the batch that makes it again."""
        self._write({"step": event.step, "event": event.kind, "batch": event.batch, "median": event.median})
        self._say(str(event), aside=True)

    def warn(self, line: str) -> None:
        """Show what did not work, and training goes on without."""
        self._say(f"warning: {line}", aside=True)

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            self._lines.append(entry)
        except OSError as error:  # a full disk is no reason to stop: it may be freed before the next save
            self.warn(f"{self._run.metrics}: {error.strerror}; step {entry['step']:,} is not in it.")

    def _say(self, line: str, *, aside: bool = False) -> None:
        """Above the bar on a terminal; elsewhere a line, of what is amiss on stderr."""
        self._said = time.monotonic()
        if self._bar is None:
            print(line, file=sys.stderr if aside else sys.stdout, flush=True)
        else:
            self._bar.console.print(line)

    def _line(self, step: int, entry: dict[str, Any]) -> str:
        place = f"step {step:,}/{self._scale.steps:,}"
        if "val_nats" in entry:
            return f"{place}  held-out bound {entry['val_nats']:,.1f} nats/cell ({entry['val_cells']:,.0f} val cells)"
        (before, then), self._last = self._last, (step, time.monotonic())
        left = (self._scale.steps - step) * (self._last[1] - then) / max(step - before, 1)
        mfu = f"  MFU {entry['mfu']:.1%}" if "mfu" in entry else ""
        return (
            f"{place}  loss {entry['train_nats']:,.1f} nats/cell  {entry['cells_per_second']:,.0f} cells/s{mfu}  "
            f"data wait {entry['data_wait']:.0%}  {duration(left)} left"
        )


def memory_high_water() -> dict[str, float]:
    """Most memory so far, bytes: of this host's fullest device where it tells, else of this process."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    if any(peaks):
        return {"device_peak_bytes": float(max(peaks))}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"host_peak_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)}


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class SilentReporter:
    """What every process but the first reports: nothing."""

    def begin(self, step: int) -> None:
        pass

    def advance(self, step: int) -> None:
        pass

    def log(self, step: int, metrics: dict[str, float]) -> None:
        pass

    def account(self, seconds: dict[str, float]) -> None:
        pass

    def finish(self, step: int) -> None:
        pass

    def note(self, event: Event) -> None:
        pass

    def warn(self, line: str) -> None:
        pass

    def __enter__(self) -> "SilentReporter":
        return self

    def __exit__(self, *error: object) -> None:
        pass
