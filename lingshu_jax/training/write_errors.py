"""Why something could not be written: TensorStore and Orbax hide the system's word in pages of text."""

import os
import re

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
