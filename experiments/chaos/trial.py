"""One injected fault: start, disturb at a random moment, look, start again, and compare with what no fault made."""

import dataclasses
import pathlib
import random
import time
from collections.abc import Callable
from typing import Any

from experiments.chaos.faults import Fault, TooLate
from experiments.chaos.jobs import Ended, Job
from experiments.chaos.scenarios import Scenario

TOO_LATE = "too late"
"""The command had ended before the fault: it does not count as one."""
_STARTS = 4


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a scenario's command makes when nothing happens to it."""

    result: Any
    seconds: float
    leftovers: tuple[str, ...]


def reference(scenario: Scenario, folder: pathlib.Path) -> Reference:
    """Run the command undisturbed.

    Raises:
        Violation: it fails.
    """
    scenario.fresh(folder)
    begin = time.monotonic()
    ended = Job(scenario.commands(folder), scenario.environment(folder)).wait()
    seconds = time.monotonic() - begin
    require(all(one.status == 0 for one in ended), f"it fails without any fault: {_last(ended)}")
    result = scenario.result(folder)
    require(result is not None, "it makes nothing")
    return Reference(result, seconds, tuple(scenario.leftovers(folder)))


def attempt(scenario: Scenario, fault: Fault, expected: Reference, folder: pathlib.Path, draws: random.Random) -> str:
    """Inject one fault; what happened, in a few words.

    Raises:
        Violation: an invariant does not hold; says which.
    """
    scenario.fresh(folder)
    job = Job(scenario.commands(folder), scenario.environment(folder))
    try:
        _wait_for_moment(scenario, job, folder, expected.seconds, draws)
        if not job.running():
            return TOO_LATE
        ended = fault.inject(job, scenario, folder, draws)
    except TooLate:
        return TOO_LATE
    finally:
        job.kill()
    for one in ended:
        require(one.status in fault.statuses, f"it ended with status {one.status}: {_last(ended)}")
        require("Traceback (most recent call last)" not in one.said, f"it printed a traceback: {_last(ended)}")
        require(one.status != 2 or len(one.refusal) == 1, f"it refused in {len(one.refusal)} lines: {_last(ended)}")
    half = scenario.result(folder)
    require(half is None or scenario.complete(half, expected.result), "what it left is neither complete nor absent")
    went_on = all(one.status == 0 for one in ended)
    require(not went_on or half is not None, "it said that it was done, and was not")
    _start_again(scenario, folder)
    require(scenario.result(folder) == expected.result, "started again it makes something else")
    left = sorted(set(scenario.leftovers(folder)) - set(expected.leftovers))
    require(not left, f"it leaves {', '.join(left)}")
    refused = any(one.status == 2 for one in ended)
    return "went on" if went_on else "refused in one line, then recovered" if refused else "recovered"


def _wait_for_moment(scenario: Scenario, job: Job, folder: pathlib.Path, seconds: float, draws: random.Random) -> None:
    """A random moment of the whole, or one after the work proper has begun."""
    early, moment, limit = draws.random() < scenario.anywhen, draws.random(), time.monotonic() + 4 * seconds
    if early:
        wait(lambda: time.monotonic() - job.started >= 0.9 * seconds * moment, job, limit)
        return
    wait(lambda: scenario.begun(folder), job, limit)
    begun = time.monotonic()
    wait(lambda: time.monotonic() - begun >= 0.25 * seconds * moment**2, job, limit)


def wait(condition: Callable[[], bool], job: Job, limit: float) -> None:
    """Until it holds, or the job has ended."""
    while job.running() and time.monotonic() < limit and not condition():
        time.sleep(0.005)


def _start_again(scenario: Scenario, folder: pathlib.Path) -> None:
    ended: list[Ended] = []
    for _ in range(_STARTS):
        ended = Job(scenario.commands(folder), scenario.environment(folder)).wait()
        if all(one.status == 0 for one in ended):
            return
        require({one.status for one in ended} <= {0, 75}, f"it does not start again: {_last(ended)}")
    raise Violation(f"it does not end after {_STARTS} starts: {_last(ended)}")


def require(condition: bool, otherwise: str) -> None:
    """Raise a Violation where something does not hold."""
    if not condition:
        raise Violation(otherwise)


def _last(ended: list[Ended]) -> str:
    return " | ".join(" / ".join(one.said.strip().splitlines()[-6:]) for one in ended)
