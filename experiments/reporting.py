"""Training metrics: one line of metrics.jsonl per interval, a bar on a terminal, plain lines elsewhere."""

import json
import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.progress import duration
from experiments.runs import RunFolder
from lingshu_jax.training.watch import Event


class TrainingReporter:
    """Writes and shows the metrics of a run; a resumed run's later lines are replaced, not repeated."""

    def __init__(self, run: RunFolder, steps: int, genes: int):
        """`genes` turns nats per gene into nats per cell."""
        self._run, self._steps, self._genes = run, steps, genes
        self._seconds_before = 0.0
        self._bar: Progress | None = None

    def __enter__(self) -> "TrainingReporter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: int) -> None:
        """Training starts, or goes on, at this step."""
        kept = [entry for entry in self._run.read_metrics() if entry["step"] <= step]
        self._seconds_before = max((entry.get("seconds", 0.0) for entry in kept), default=0.0)
        # At its own step a resumed run evaluates again; the line that is there already would stand twice.
        kept = [entry for entry in kept if entry["step"] < step or "val_nats" not in entry]
        partial = self._run.metrics.with_name(f".{self._run.metrics.name}.{os.getpid()}")
        partial.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        partial.replace(self._run.metrics)
        self._begin = time.monotonic()
        self._last = (step, self._begin)
        where = f"resumes at step {step:,}" if step else "starts"
        print(f"run {self._run.path} {where}, {self._steps:,} steps in all", flush=True)
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task("train", total=self._steps, completed=step, note="")
            self._bar.start()

    def advance(self, step: int) -> None:
        """A step is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record metrics, and show what is worth reading of them."""
        if not metrics:
            return
        elapsed = time.monotonic() - self._begin
        entry: dict[str, Any] = {"step": step, "seconds": round(self._seconds_before + elapsed, 3), **metrics}
        if "loss" in metrics:
            entry["train_nats"] = metrics["loss"] * self._genes
        self._write(entry)
        line = self._line(step, entry)
        if self._bar is None:
            print(line, flush=True)
        elif "val_nats" in entry:
            self._bar.console.print(line)
        else:
            self._bar.update(self._task, note=f"{entry['train_nats']:,.1f} nats/cell")

    def note(self, event: Event) -> None:
        """Record and show a step that was skipped or whose loss stands out, with the batch that makes it again."""
        self._write({"step": event.step, "event": event.kind, "batch": event.batch, "median": event.median})
        self._say(str(event))

    def warn(self, line: str) -> None:
        """Show what did not work, and training goes on without."""
        self._say(f"warning: {line}")

    def _write(self, entry: dict[str, Any]) -> None:
        try:
            with self._run.metrics.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:  # a full disk is no reason to stop: it may be freed before the next save
            self.warn(f"{self._run.metrics}: {error.strerror}; step {entry['step']:,} is not in it.")

    def _say(self, line: str) -> None:
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(line)

    def _line(self, step: int, entry: dict[str, Any]) -> str:
        place = f"step {step:,}/{self._steps:,}"
        if "val_nats" in entry:
            return f"{place}  held-out bound {entry['val_nats']:,.1f} nats/cell ({entry['val_cells']:,.0f} val cells)"
        (before, then), self._last = self._last, (step, time.monotonic())
        left = (self._steps - step) * (self._last[1] - then) / max(step - before, 1)
        return (
            f"{place}  loss {entry['train_nats']:,.1f} nats/cell  {entry['cells_per_second']:,.0f} cells/s  "
            f"data wait {entry['data_wait']:.0%}  {duration(left)} left"
        )


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

    def note(self, event: Event) -> None:
        pass

    def warn(self, line: str) -> None:
        pass

    def __enter__(self) -> "SilentReporter":
        return self

    def __exit__(self, *error: object) -> None:
        pass
