"""SIGTERM before the first step: there is nothing to save yet, and the same command starts again. Without jax."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

START_AGAIN = 75


def stop_early(number: int, frame: Any) -> None:
    """End at once, as the signal itself would: an exception could be lost in a library that is being imported."""
    os.write(2, b"lingshu: stopped before the first step; start again\n")
    os._exit(START_AGAIN)


@contextlib.contextmanager
def stopping_early() -> Iterator[None]:
    """From here on SIGTERM ends with status 75, until `StopRequest` or jax's preemption service takes it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop_early)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
