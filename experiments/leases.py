"""A lock in an object store, which cannot tell who has died: an object that its holder writes again and again.

It is made only where there is none (If-None-Match), and written again only as it was left (If-Match), so two cannot
hold it. Whoever finds one waits until it is written again (it is held) or has not been for so long that it is not.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from data_pipelines.errors import Interrupted
from data_pipelines.lock_owner import LockOwner, refused
from lingshu_jax.buckets.files import place_of, told_as_system_errors

REFRESH_SECONDS = 10.0
LEASE_SECONDS = 45.0
"""A lock that has not been written for so long is nobody's."""
START_AGAIN = 75


def end_process(line: str) -> None:
    """The run is another process's now: say so, and write nothing more."""
    print(f"lingshu: {line}", file=sys.stderr, flush=True)
    os._exit(START_AGAIN)


@contextlib.contextmanager
def leased(url: str, refusal: str, *, lost: Callable[[str], None] = end_process) -> Iterator[None]:
    """Hold the lock at a gs:// or s3:// URL.

    Args:
        url: of the object.
        refusal: what to say where another process holds it.
        lost: called, from another thread, when it could not be written in time and may be another's.

    Raises:
        Interrupted: another process holds it; `refusal` is the message, with who that is.
    """
    with told_as_system_errors(url):
        owner = LockOwner.me()
        lease = _Lease(url, owner, _acquire(url, owner, refusal))
    done = threading.Event()
    keeper = threading.Thread(target=lease.keep, args=(done, lost), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        lease.give_up()


def _acquire(url: str, owner: LockOwner, refusal: str) -> Any:
    """The lock as we wrote it, taken where nobody has it or its holder is silent."""
    store, key = place_of(url)
    try:
        return obstore.put(store, key, owner.to_bytes(), mode="create")["e_tag"]
    except AlreadyExistsError:
        pass
    print(f"{url} is there: waiting up to {LEASE_SECONDS:.0f} s for whoever held it", file=sys.stderr, flush=True)
    seen, since = _state(store, key), time.monotonic()
    while seen is not None and time.monotonic() - since < LEASE_SECONDS:
        time.sleep(min(1.0, REFRESH_SECONDS / 4))
        now = _state(store, key)
        if now is not None and now != seen:
            raise _refused(store, key, refusal)
        seen = now
    try:
        mode: Any = "create" if seen is None else {"e_tag": seen}
        return obstore.put(store, key, owner.to_bytes(), mode=mode)["e_tag"]
    except (AlreadyExistsError, PreconditionError):
        raise _refused(store, key, refusal) from None


class _Lease:
    """A lock that is ours."""

    def __init__(self, url: str, owner: LockOwner, tag: Any) -> None:
        self._url, self._owner, self._tag = url, owner, tag

    def keep(self, done: threading.Event, lost: Callable[[str], None]) -> None:
        """Write it again in time, until done."""
        store, key = place_of(self._url)
        written = time.monotonic()
        while not done.wait(REFRESH_SECONDS):
            try:
                self._tag = obstore.put(store, key, self._owner.to_bytes(), mode={"e_tag": self._tag})["e_tag"]
                written = time.monotonic()
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return lost(f"{self._url} was taken by another process, which trains this run now.")
            except Exception:  # the network may come back
                if time.monotonic() - written > LEASE_SECONDS:
                    return lost(f"{self._url} was not writable for {LEASE_SECONDS:.0f} s: the run may be another's.")

    def give_up(self) -> None:
        """Free it for the next; one that cannot be reached frees itself."""
        store, key = place_of(self._url)
        with contextlib.suppress(Exception):
            if _state(store, key) == self._tag:
                obstore.delete(store, key)


def _state(store: Any, key: str) -> Any:
    try:
        return obstore.head(store, key)["e_tag"]
    except FileNotFoundError:
        return None


def _refused(store: Any, key: str, refusal: str) -> Interrupted:
    try:
        content = bytes(obstore.get(store, key).bytes())
    except FileNotFoundError:
        content = b""
    return Interrupted(refused(refusal, content))
