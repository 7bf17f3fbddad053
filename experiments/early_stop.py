"""SIGTERM before the first step: there is nothing to save yet, and the same command starts again. Without jax."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class StoppedEarly(BaseException):
    """The process was asked to stop before training began; no `except Exception` takes it for a fault."""


def stop_early(number: int, frame: Any) -> None:
    """Handler of the signal."""
    raise StoppedEarly


@contextlib.contextmanager
def stopping_early() -> Iterator[None]:
    """From here on SIGTERM raises StoppedEarly, until `StopRequest` or jax's preemption service takes it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop_early)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
