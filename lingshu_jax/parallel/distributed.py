"""Several processes as one run: start, decisions of process 0, barriers that name who is missing, an end for all.

Nothing here needs a device. In a run of one process everything returns at once.
"""

import collections
import contextlib
import ctypes
import functools
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax._src import distributed as jax_distributed

from lingshu_jax.parallel.cluster import Place
from lingshu_jax.parallel.config import DistributedConfig
from lingshu_jax.parallel.roll_call import LeaderFailed, Lines, MissingProcesses, call_roll, hung_up

START_AGAIN = 75
"""Exit status of a process that stopped early through no fault of the run's settings: start it again."""
WAIT_SECONDS = 1800
"""How long a decision of process 0, as reading data or verifying a checkpoint, may take."""
_LEAVE_SECONDS, _PATIENCE_SECONDS, _GLANCE_SECONDS = 30, 3, 0.5
_FAILED = "lingshu/failed/"
_heartbeat_seconds = 0
_decided: int | None = None
"""The status that this process ends with, once it has failed by itself: others may then go before it."""
_uses: collections.Counter[str] = collections.Counter()


def start(place: Place, config: DistributedConfig) -> None:
    """Join the other processes. Call it before anything asks for a device.

    From here on, a process that dies ends the others with status 75 and one line.

    Raises:
        MissingProcesses: not all arrived in time.
    """
    global _heartbeat_seconds
    _heartbeat_seconds = config.heartbeat_seconds
    lines = call_roll(place, config.start_seconds)
    with _ending_through(functools.partial(_lost, place, lines)):
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.process,
            local_device_ids=None if place.devices is None else list(place.devices),
            cluster_detection_method="deactivate",
            initialization_timeout=config.start_seconds,
            heartbeat_timeout_seconds=config.heartbeat_seconds,
        )


def is_leader() -> bool:
    """Whether this is process 0, which alone writes logs and the run's files."""
    return jax_distributed.global_state.process_id == 0


def several() -> bool:
    """Whether the run has more than one process."""
    return jax_distributed.global_state.num_processes > 1


def lead[T](name: str, decide: Callable[[], T], *, seconds: float = WAIT_SECONDS) -> T:
    """What `decide()` returns on process 0, on every process; JSON-serialisable. All must call it, in the same order.

    Raises:
        LeaderFailed: `decide` raised on process 0, which raises its own error.
        MissingProcesses: process 0 has not decided in time.
    """
    if not several():
        return decide()
    key = _key(name)
    client: Any = jax_distributed.global_state.client
    if is_leader():
        try:
            value = decide()
        except Exception as error:
            client.key_value_set(key, json.dumps({"error": str(error)}))
            raise
        client.key_value_set(key, json.dumps({"value": value}))
        return value
    try:
        answer = json.loads(client.blocking_key_value_get(key, int(seconds * 1000)))
    except jax.errors.JaxRuntimeError as error:
        raise MissingProcesses(f"process 0 has not come through {name!r} within {seconds:g} s") from error
    if "error" in answer:
        raise LeaderFailed(answer["error"])
    return answer["value"]


def barrier(name: str, *, seconds: float = WAIT_SECONDS) -> None:
    """Return when every process has called it.

    Raises:
        MissingProcesses: some have not in time; names them.
    """
    if not several():
        return
    state, key = jax_distributed.global_state, _key(name)
    client: Any = state.client
    client.key_value_set(f"{key}/{state.process_id}", "here")
    try:
        client.wait_at_barrier(f"{key}/all", int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        here = {int(path.rsplit("/", 1)[1]) for path, _ in client.key_value_dir_get(key)}
        missing = sorted(set(range(state.num_processes)) - here)
        raise MissingProcesses(
            f"process {', '.join(map(str, missing))} of {state.num_processes} has not reached {name!r} within "
            f"{seconds:g} s (this is process {state.process_id})"
        ) from error


class OtherFailed(RuntimeError):
    """Another process could not do its part of what all do together; says which and why."""


def together[T](act: Callable[[], T], reason: Callable[[Exception], str]) -> T:
    """Do something that waits for all processes inside; where one cannot do its part, none waits for it.

    Args:
        act: what to do; it is left alone, in a thread, when another process has failed.
        reason: why, in a phrase for the others.

    Raises:
        OtherFailed: another process has failed in this or any earlier such act.
        Exception: what `act` raised here.
    """
    if not several():
        return act()
    client: Any = jax_distributed.global_state.client
    done: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((act(), None))
        except Exception as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        with contextlib.suppress(queue.Empty):
            value, error = done.get(timeout=_GLANCE_SECONDS)
            break
        for path, why in client.key_value_dir_get(_FAILED):
            raise OtherFailed(f"process {path.rsplit('/', 1)[1]} says: {why}")
    if error is not None:
        if _of_others(error):
            time.sleep(_heartbeat_seconds + _LEAVE_SECONDS)  # the end of another process ends this one meanwhile
        key = f"{_FAILED}{jax_distributed.global_state.process_id}"
        client.key_value_set(key, reason(error), allow_overwrite=True)
        raise error
    return value


def _of_others(error: BaseException | None) -> bool:
    """Whether waiting for other processes failed, rather than this one's own part."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def shared_fate() -> Iterator[None]:
    """While in this context, an error that is due to a process that died ends this one as its death does.

    A collective may fail before the coordination service knows why; an error that stays unexplained is this process's
    own, and ends it with status 1.
    """
    try:
        yield
    except (RuntimeError, OSError):
        if several():
            time.sleep(_heartbeat_seconds + _LEAVE_SECONDS)
            traceback.print_exc()
            leave(1)
        raise


def leave(status: int) -> None:
    """End this process's part. After a success all end together; after a failure this process does not wait for long.

    In a run of several processes that did not succeed this does not return.
    """
    global _decided
    if not several():
        return
    _decided = status or None
    with contextlib.suppress(MissingProcesses):
        barrier("the end", seconds=WAIT_SECONDS if status == 0 else _LEAVE_SECONDS)
        if status == 0:
            jax.distributed.shutdown()
            return
    # Not sys.exit: at exit jax would wait minutes for processes that wait for this one.
    _end(status)


def _key(name: str) -> str:
    _uses[name] += 1
    return f"lingshu/{name}/{_uses[name]}"


def _end(status: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # whoever read it may be gone
            stream.flush()
    os._exit(status)


def _lost(place: Place, lines: Lines, *_: Any) -> None:
    """The coordination service says that a process is gone: nothing that this one computes can be finished."""
    if _decided is not None:
        _end(_decided)
    gone = ", ".join(f"process {process}" for process in hung_up(lines, _PATIENCE_SECONDS)) or "another process"
    who = f"{gone} (the coordinator, {place.coordinator})" if gone == "process 0" else gone
    print(
        f"lingshu: process {place.process} lost {who}: it ended or does not answer. What was saved is kept; start all "
        f"{place.processes} processes again.",
        file=sys.stderr,
    )
    _end(START_AGAIN)


@contextlib.contextmanager
def _ending_through(lost: Callable[..., None]) -> Iterator[None]:
    """Have jax's client call `lost` where it would abort the process.

    jax passes no callback on, and jaxlib 0.11.2 cannot call one: it fails to convert the status and goes to the
    terminate handler of C++ instead. So that is `lost` as well.
    """
    make_client = jax_distributed._jax.get_distributed_runtime_client
    jax_distributed._jax.get_distributed_runtime_client = functools.partial(make_client, missed_heartbeat_callback=lost)
    try:
        with contextlib.suppress(OSError, AttributeError):
            _keep.append(ctypes.CFUNCTYPE(None)(lost))
            ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE(_keep[-1])
        yield
    finally:
        jax_distributed._jax.get_distributed_runtime_client = make_client


_keep: list[Any] = []
"""What C++ points to must not be collected."""
