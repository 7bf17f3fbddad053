"""Faults of a process that works: what is done to it, at which moment, and what it may say then."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import random
import resource
import signal
import time
from collections.abc import Iterator
from typing import Protocol

from experiments.chaos.jobs import Ended, Job
from experiments.chaos.scenarios import Scenario

SIGNALLED = (-signal.SIGKILL, -signal.SIGTERM, 75)
REFUSED = (0, 2, 75)


class TooLate(Exception):
    """The command had nothing left to be disturbed at."""


class Fault(Protocol):
    """One way in which a working command is disturbed."""

    @property
    def name(self) -> str:
        """As the table has it."""
        ...

    @property
    def statuses(self) -> tuple[int, ...]:
        """With which a disturbed command may end."""
        ...

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        """Disturb a job that is running, and wait for its end. What is disturbed around it is put right again.

        Raises:
            TooLate: there was nothing to disturb any more.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Signal:
    """A signal to one of the processes."""

    name: str
    number: int
    statuses: tuple[int, ...] = (0, *SIGNALLED)

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        job.send(self.number, draws.randrange(len(job.processes)))
        return job.wait()


@dataclasses.dataclass(frozen=True)
class Pause:
    """SIGSTOP, and SIGCONT a moment later."""

    name: str = "SIGSTOP, SIGCONT"
    statuses: tuple[int, ...] = (0,)

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        which = draws.randrange(len(job.processes))
        job.send(signal.SIGSTOP, which)
        time.sleep(draws.uniform(0.2, 2.0))
        job.send(signal.SIGCONT, which)
        return job.wait()


@dataclasses.dataclass(frozen=True)
class DiskFull:
    """From now on no file grows beyond a few bytes (RLIMIT_FSIZE), as on a full disk."""

    name: str = "disk full"
    statuses: tuple[int, ...] = REFUSED

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        size = draws.choice([0, 512, 4096, 65536])
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(job.processes[-1].pid, resource.RLIMIT_FSIZE, (size, size))
        return job.wait()


@dataclasses.dataclass(frozen=True)
class PermissionLost:
    """The folders that the command writes to may not be written any more."""

    name: str = "permission lost"
    statuses: tuple[int, ...] = REFUSED

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        with _read_only(scenario.written_to(folder)):
            return job.wait()


@contextlib.contextmanager
def _read_only(top: pathlib.Path) -> Iterator[None]:
    folders = [path for path, _, _ in os.walk(top)] or [str(top)]
    for path in folders:
        with contextlib.suppress(FileNotFoundError):
            os.chmod(path, 0o500)
    try:
        yield
    finally:
        for path in folders:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(path, 0o700)


@dataclasses.dataclass(frozen=True)
class SecondJob:
    """The same command is given once more: refused in one line that says who holds the lock.

    The first is paused meanwhile: it may be done sooner than another starts.
    """

    name: str = "second job"
    statuses: tuple[int, ...] = (0,)

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        job.send(signal.SIGSTOP, 0)
        second = Job(scenario.commands(folder)[:1], scenario.environment(folder)).wait()
        job.send(signal.SIGCONT, 0)
        for ended in second:
            refused = ended.status == 2 and len(ended.refusal) == 1 and "It is held for" in ended.refusal[0]
            if not refused and ended.status != 0:
                return [ended, *job.wait()]
        first = job.wait()
        if all(ended.status == 0 for ended in second):  # it found everything done
            raise TooLate
        return first


@dataclasses.dataclass(frozen=True)
class StalledReader:
    """Who reads the command's output stops reading, its pipe fills up, and is read on a moment later."""

    name: str = "stalled reader"
    statuses: tuple[int, ...] = (0,)

    def inject(self, job: Job, scenario: Scenario, folder: pathlib.Path, draws: random.Random) -> list[Ended]:
        stdout = job.processes[0].stdout
        assert stdout is not None
        fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, 4096)
        # The other end, opened once more: filled by us it blocks the command's next line.
        other = os.open(f"/proc/self/fd/{stdout.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(other, b"." * 512 + b"\n")
        os.close(other)
        time.sleep(draws.uniform(0.5, 3.0))
        return job.wait()


KILL, TERM = Signal("SIGKILL", signal.SIGKILL), Signal("SIGTERM", signal.SIGTERM)
EVERY: tuple[Fault, ...] = (KILL, TERM, Pause(), DiskFull(), PermissionLost(), SecondJob(), StalledReader())
