"""Who holds a lock, as it is written into it: whoever is refused is told whom to ask, and for how long."""

import dataclasses
import json
import os
import pathlib
import socket
import sys
import time
import uuid

_LONGEST = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class LockOwner:
    """One process, and when it took the lock."""

    host: str
    process: int
    command: str
    since: float
    """Seconds since 1970."""

    @classmethod
    def me(cls) -> "LockOwner":
        """This process, now."""
        program, *arguments = sys.argv or [""]
        name = "lingshu" if pathlib.PurePath(program).name == "__main__.py" else pathlib.PurePath(program).name
        command = " ".join([name, *arguments]).replace("\n", " ")
        shown = command if len(command) <= _LONGEST else f"{command[:_LONGEST]}..."
        return cls(host=socket.gethostname(), process=os.getpid(), command=shown, since=time.time())

    def to_bytes(self) -> bytes:
        """What a lock holds; no two are the same."""
        return json.dumps({**dataclasses.asdict(self), "key": uuid.uuid4().hex}).encode()

    def __str__(self) -> str:
        return (
            f"held for {_duration(time.time() - self.since)} by process {self.process} of {self.host} ({self.command})"
        )


def refused(refusal: str, content: bytes) -> str:
    """The refusal, and who holds the lock, where its content tells."""
    try:
        value = json.loads(content)
        value.pop("key")
        owner = LockOwner(**value)
        return f"{refusal} It is {owner}."
    except (ValueError, TypeError, KeyError, AttributeError):
        return refusal


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
