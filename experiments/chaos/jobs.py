"""The real commands as processes of their own, and what they said."""

import dataclasses
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parent.parent.parent
LONGEST_SECONDS = 300.0
"""A command that works for longer hangs: they take seconds."""
_WITHOUT = "-dac_override,-dac_read_search"


@dataclasses.dataclass(frozen=True)
class Ended:
    """How one process ended."""

    status: int
    said: str

    @property
    def refusal(self) -> list[str]:
        """Lines by which a command refuses."""
        return [line for line in self.said.splitlines() if line.startswith("lingshu ")]


class Job:
    """The processes of one command, each in a session of its own."""

    def __init__(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]):
        """Start them."""
        shown = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self.started = time.monotonic()
        self.processes = [
            subprocess.Popen(
                [*_without_override(), sys.executable, "-m", "experiments", *command],
                env=shown,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for command in commands
        ]

    def running(self) -> bool:
        """Whether all of them are."""
        return all(process.poll() is None for process in self.processes)

    def send(self, number: int, which: int) -> None:
        """Send a signal to one process and what it started."""
        os.killpg(self.processes[which].pid, number)

    def wait(self) -> list[Ended]:
        """Until all have ended; one that hangs is killed, which `Ended.status` shows as None of the expected ones."""
        limit, ended = time.monotonic() + LONGEST_SECONDS, []
        for process in self.processes:
            try:
                said, _ = process.communicate(timeout=max(1.0, limit - time.monotonic()))
                ended.append(Ended(process.returncode, said.decode(errors="replace")))
            except subprocess.TimeoutExpired:
                self.kill()
                said, _ = process.communicate()
                ended.append(Ended(HUNG, said.decode(errors="replace")))
        self.kill()
        return ended

    def kill(self) -> None:
        """End what is left of them."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


HUNG = -1000
"""Status of a command that did not end by itself."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@functools.cache
def _without_override() -> list[str]:
    """As root: without the right to write where permissions forbid it."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    return ["setpriv", f"--bounding-set={_WITHOUT}", f"--inh-caps={_WITHOUT}"]


def obeys_permissions() -> bool:
    """Whether commands can be made to lose a permission here."""
    return os.geteuid() != 0 or bool(_without_override())
