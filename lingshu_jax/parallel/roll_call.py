"""Before jax is started: wait until every process of the run is there, or say which are not.

jax ends a process that waits in vain without saying for whom. So process 0 first answers at the coordinator's address
itself; once all have called it gives the address free. The lines stay open: when a process dies, the system hangs up
for it, and process 0 can say which it was.
"""

import contextlib
import errno
import json
import socket
import time

from lingshu_jax.parallel.cluster import Place

_RETRY_SECONDS = 0.2


class MissingProcesses(RuntimeError):
    """Some processes of the run have not arrived; names them."""


class AddressTaken(ValueError):
    """Another program has the coordinator's port; says which."""


class LeaderFailed(ValueError):
    """Process 0 could not do what all wait for; carries its message."""


Lines = dict[int, socket.socket]
"""Open connections by process: of process 0 to all others, of any other to process 0."""


def call_roll(place: Place, seconds: float) -> Lines:
    """Return when all processes have called.

    Raises:
        MissingProcesses: some have not within so many seconds; every process that has is told which.
        AddressTaken: another program has the coordinator's port.
    """
    missing, lines = _answer(place, seconds) if place.process == 0 else _call(place, seconds)
    if missing:
        for line in lines.values():
            line.close()
        raise MissingProcesses(
            f"{_named(missing)} of {place.processes} {'has' if len(missing) == 1 else 'have'} not arrived at "
            f"{place.coordinator} within {seconds:g} s (this is process {place.process})"
        )
    return lines


def hung_up(lines: Lines, patience: float = 0.0) -> list[int]:
    """Which processes at the other ends have ended. Waits so many seconds for one: the system takes a while."""
    end = time.monotonic() + patience
    while True:
        found = [process for process, line in lines.items() if _at_end(line)]
        if found or time.monotonic() >= end:
            return found
        time.sleep(_RETRY_SECONDS)


def _at_end(line: socket.socket) -> bool:
    line.settimeout(0)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _named(processes: list[int]) -> str:
    shown = ", ".join(map(str, processes[:16])) + (" and others" if len(processes) > 16 else "")
    return f"process {shown}" if len(processes) == 1 else f"processes {shown}"


def _answer(place: Place, seconds: float) -> tuple[list[int], Lines]:
    """Process 0: take the calls, then tell everybody who is missing."""
    end = time.monotonic() + seconds
    callers: Lines = {}
    with _listen(int(place.coordinator.rpartition(":")[2]), end) as server:
        while len(callers) < place.processes - 1 and (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                caller, _ = server.accept()
                caller.settimeout(5)
                callers[int(caller.makefile().readline())] = caller
            except (TimeoutError, ValueError, ConnectionError):
                continue
    missing = sorted(set(range(1, place.processes)) - set(callers))
    for caller in callers.values():
        with contextlib.suppress(OSError):  # it is gone, and will be missed
            caller.sendall(json.dumps(missing).encode() + b"\n")
    return missing, callers


def _listen(port: int, end: float) -> socket.socket:
    """At a port that a process 0 of before may still have."""
    dual = socket.has_dualstack_ipv6()
    while True:
        try:
            return socket.create_server(
                ("", port),
                family=socket.AF_INET6 if dual else socket.AF_INET,
                dualstack_ipv6=dual,
                backlog=1024,
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() > end:
                raise AddressTaken(
                    f"port {port} of this machine, the coordinator's, is taken by another program. End it, or choose "
                    f"another port with --distributed.coordinator."
                ) from None
            time.sleep(_RETRY_SECONDS)


def _call(place: Place, seconds: float) -> tuple[list[int], Lines]:
    """Any other process: call process 0, and hear who is missing."""
    host, _, port = place.coordinator.rpartition(":")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            line = socket.create_connection((host.strip("[]"), int(port)), timeout=left)
            line.settimeout(left + 5)  # process 0 may have started to wait later
            line.sendall(f"{place.process}\n".encode())
            return json.loads(line.makefile().readline()), {0: line}
        except (OSError, ValueError):
            pass
        time.sleep(min(_RETRY_SECONDS, max(0.0, end - time.monotonic())))
    return [0], {}
