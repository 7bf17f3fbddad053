"""Before jax is started: wait until every process of the run is there, or say which are not.

jax ends a process that waits in vain without saying for whom. So process 0 first answers at the coordinator's address
itself; once all have called it gives the address free.
"""

import json
import socket
import time

from lingshu_jax.parallel.cluster import Place

_RETRY_SECONDS = 0.2


class MissingProcesses(RuntimeError):
    """Some processes of the run have not arrived; names them."""


def call_roll(place: Place, seconds: float) -> None:
    """Return when all processes have called.

    Raises:
        MissingProcesses: some have not within so many seconds; every process that has is told which.
    """
    missing = _answer(place, seconds) if place.process == 0 else _call(place, seconds)
    if missing:
        raise MissingProcesses(
            f"{_named(missing)} of {place.processes} {'has' if len(missing) == 1 else 'have'} not arrived at "
            f"{place.coordinator} within {seconds:g} s (this is process {place.process})"
        )


def _named(processes: list[int]) -> str:
    shown = ", ".join(map(str, processes[:16])) + (" and others" if len(processes) > 16 else "")
    return f"process {shown}" if len(processes) == 1 else f"processes {shown}"


def _answer(place: Place, seconds: float) -> list[int]:
    """Process 0: take the calls, then tell everybody who is missing."""
    end = time.monotonic() + seconds
    callers: dict[int, socket.socket] = {}
    with _listen(int(place.coordinator.rpartition(":")[2])) as server:
        try:
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
                _tell(caller, missing)
            return missing
        finally:
            for caller in callers.values():
                caller.close()


def _tell(caller: socket.socket, missing: list[int]) -> None:
    try:
        caller.sendall(json.dumps(missing).encode() + b"\n")
        caller.recv(1)  # the caller hangs up first: then the port is free at once
    except OSError:
        pass  # it is gone, and will be missed by the coordination service


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("", port), backlog=1024)


def _call(place: Place, seconds: float) -> list[int]:
    """Any other process: call process 0, and hear who is missing."""
    host, _, port = place.coordinator.rpartition(":")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as connection:
                connection.settimeout(left + 5)  # process 0 may have started to wait later
                connection.sendall(f"{place.process}\n".encode())
                answer = connection.makefile().readline()
                if answer:
                    return json.loads(answer)
        except (OSError, ValueError):
            pass
        time.sleep(min(_RETRY_SECONDS, max(0.0, end - time.monotonic())))
    return [0]
