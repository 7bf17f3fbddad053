"""Goodput: the share of a run's wall time spent in steps that counted, and what the rest went to, over all restarts."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from lingshu_jax.training.metrics import START, USEFUL

REPEATED, STOPPED = "repeated", "stopped"
"""Causes that only a restart shows: steps whose results were lost, and the time between two starts."""


@dataclasses.dataclass(frozen=True)
class Goodput:
    """Seconds of a run."""

    useful: float = 0.0
    """In steps whose results are part of the run."""
    lost: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By cause: start (statistics, restore, compiling), data, evaluation, saving, repeated, stopped."""

    @classmethod
    def resumed(cls, entries: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]], now: float) -> Self:
        """The account of a run that goes on at time `now` with the `kept` ones of its metrics."""
        accounts = [entry for entry in entries if "useful_seconds" in entry]
        if not accounts:
            return cls()
        last, before = accounts[-1], [entry for entry in kept if "useful_seconds" in entry]
        useful = before[-1]["useful_seconds"] if before else 0.0
        gone = {REPEATED: last["useful_seconds"] - useful, STOPPED: max(0.0, now - last["time"])}
        return cls(useful, last["lost_seconds"]).plus(gone)

    def plus(self, seconds: Mapping[str, float]) -> Self:
        """With more time: of useful steps, and lost by cause."""
        lost = dict(self.lost)
        for cause, more in seconds.items():
            if cause != USEFUL:
                lost[cause] = lost.get(cause, 0.0) + more
        return dataclasses.replace(self, useful=self.useful + seconds.get(USEFUL, 0.0), lost=lost)

    def started(self, seconds: float) -> Self:
        """With the time from the process's start to its first step."""
        return self.plus({START: seconds})

    @property
    def seconds(self) -> float:
        """Wall time of the run."""
        return self.useful + sum(self.lost.values())

    @property
    def share(self) -> float:
        """Of the wall time, in useful steps."""
        return self.useful / max(self.seconds, 1e-9)

    def entry(self) -> dict[str, Any]:
        """For a line of metrics.jsonl."""
        lost = {cause: round(seconds, 3) for cause, seconds in self.lost.items()}
        return {
            "goodput": round(self.share, 4),
            "useful_seconds": round(self.useful, 3),
            "lost_seconds": lost,
            "time": round(time.time(), 3),
        }

    def line(self) -> str:
        """For a person: the share, and the causes that took most."""
        causes = sorted(self.lost.items(), key=lambda item: -item[1])
        named = ", ".join(f"{cause} {seconds / max(self.seconds, 1e-9):.0%}" for cause, seconds in causes if seconds)
        return f"goodput {self.share:.0%}" + (f" (lost: {named})" if named else "")
