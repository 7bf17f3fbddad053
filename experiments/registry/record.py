"""The process that writes a run folder into the registry while a job works: `python -m experiments.registry.record`.

A process of its own: importing MLflow takes seconds, a server may hang, and a job must neither wait nor fail for it.
It goes on until its standard input ends (the job has ended, killed or not), and then writes once more.
"""

import contextlib
import math
import os
import select
import signal
import sys
from collections.abc import Sequence

from experiments.load import warn
from experiments.registry.place import RegistryPlace
from experiments.runs import RunFolder
from experiments.storage import folder_at

TRAINING = "--training"
EVERY_SECONDS = 30.0
LONGEST_SECONDS = 300.0
_GLANCE_SECONDS = 2.0


def main(arguments: Sequence[str]) -> None:
    """Keep the registry up to date with the run folder that is the first argument."""
    for number in (signal.SIGTERM, signal.SIGINT):  # they are for the job, which then ends by itself
        signal.signal(number, signal.SIG_IGN)
    run, training, parent = RunFolder(folder_at(arguments[0])), TRAINING in arguments, os.getppid()
    place = RegistryPlace.of(run.root)
    if place is None:
        return
    told = False
    if training:
        told = _follow(run, place, parent)
    else:
        prepare(place)
        _wait(math.inf, parent)
    error = write(run, place)
    if error and not told:
        _tell(place, error)


def _follow(run: RunFolder, place: RegistryPlace, parent: int) -> bool:
    """Write at intervals until the job has ended, ever more rarely while it fails; whether it failed at last."""
    seconds = EVERY_SECONDS
    while True:
        error = write(run, place, running=True)
        if error and seconds == EVERY_SECONDS:
            _tell(place, error)
        seconds = min(2 * seconds, LONGEST_SECONDS) if error else EVERY_SECONDS
        if _wait(seconds, parent):
            return bool(error)


def _tell(place: RegistryPlace, error: str) -> None:
    warn(
        f"the registry {place.shown} cannot be written ({error}). The run folder keeps everything; the run's next job "
        f"writes it, or: lingshu runs --rebuild"
    )


def write(run: RunFolder, place: RegistryPlace, *, running: bool = False) -> str:
    """Write what is new; what went wrong in a few words, where something did."""
    try:
        from experiments.registry.index import MlflowIndex
        from experiments.registry.records import read_records

        with place.written(str(run.path)):
            MlflowIndex.open(place).sync(read_records(run), running=running)
    except Exception as error:
        return in_short(error)
    return ""


def prepare(place: RegistryPlace) -> None:
    """Import and connect while the job works; what goes wrong is told when there is something to write."""
    from experiments.registry.index import MlflowIndex

    with contextlib.suppress(Exception), place.written("", seconds=0.0):
        MlflowIndex.open(place)


def in_short(error: Exception) -> str:
    """An error in one short line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:160]}..."


def _wait(seconds: float, parent: int) -> bool:
    """Wait for so long, or until the job has ended; whether it has."""
    left = seconds
    while left > 0:
        ready, _, _ = select.select([sys.stdin], [], [], min(_GLANCE_SECONDS, left))
        if ready or os.getppid() != parent:  # workers of a killed job may still hold the other end
            return True
        left -= _GLANCE_SECONDS
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
