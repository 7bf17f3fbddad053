"""Why something could not be written: TensorStore and Orbax hide the system's word in pages of text."""

import logging
import os
import re
import sys
from typing import Any

_CODE = re.compile(r"os_error_code='(\d+)'")


def reason_of(error: BaseException) -> str:
    """The system's message where there is one in an error or in what caused it, else its first line."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        code = _CODE.search(str(cause))
        if code is not None:
            return os.strerror(int(code[1]))
        cause = cause.__cause__ or cause.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def silence_orbax() -> None:
    """Leave out the pages that Orbax and TensorStore print of a failed save: its cause is told in one line."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        # Writes that are still under way when their save has failed report to an event loop that is gone.
        if not (isinstance(unraisable.exc_value, RuntimeError) and "Event loop is closed" in str(unraisable.exc_value)):
            before(unraisable)

    sys.unraisablehook = tell
