"""What the system said when something could not be written: TensorStore and numpy hide it, and the file's name."""

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError, Interrupted

if TYPE_CHECKING:
    import numpy as np

_CODE = re.compile(r"os_error_code='(\d+)'")


@contextlib.contextmanager
def told_as_system_errors(place: Any) -> Iterator[None]:
    """Turn TensorStore's ValueError into the OSError that it was, for the folder or URL `place`.

    Raises:
        OSError: no space, no permission, ...
        Interrupted: an object store refused.
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        code = _CODE.search(str(error))
        if code is None:
            said = str(error).splitlines()[0][:300]
            raise Interrupted(f"{place} cannot be reached ({said}). Check its address and your permissions.") from error
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(place)) from error


def save_array(path: pathlib.Path, array: "np.ndarray") -> None:
    """np.save.

    Raises:
        OSError: it cannot be written whole; names the file.
    """
    import numpy as np

    with named(path):
        np.save(path, array)


@contextlib.contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
    """Name the file that cannot be written.

    Raises:
        OSError: as before, with the file's name.
    """
    try:
        yield
    except OSError as error:
        code = error.errno or errno.ENOSPC  # numpy says no more than that less was written than asked
        raise OSError(code, os.strerror(code), str(path)) from error
