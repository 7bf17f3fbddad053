"""A file that one process holds at a time; the system lets go of it when the process ends, killed or not."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from data_pipelines.errors import Interrupted


@contextlib.contextmanager
def held(path: pathlib.Path, refusal: str) -> Iterator[None]:
    """Hold a lock file in a folder that exists.

    Raises:
        Interrupted: another process holds it; `refusal` is the message.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Interrupted(refusal) from None
        yield
