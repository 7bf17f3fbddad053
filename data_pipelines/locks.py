"""A file that one process holds at a time; the system lets go of it when the process ends, killed or not."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from data_pipelines.errors import Interrupted
from data_pipelines.lock_owner import LockOwner, refused


@contextlib.contextmanager
def held(path: pathlib.Path, refusal: str) -> Iterator[None]:
    """Hold a lock file in a folder that exists.

    Raises:
        Interrupted: another process holds it; `refusal` is the message, with who that is and since when.
    """
    with path.open("ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Interrupted(refused(refusal, file.read())) from None
        with contextlib.suppress(OSError):  # a full disk: it is held all the same
            file.truncate(0)
            file.write(LockOwner.me().to_bytes())
        yield
