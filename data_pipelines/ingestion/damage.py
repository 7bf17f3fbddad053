"""Whatever reading a damaged or odd input raises, said in one line that names the file and the slot."""

import contextlib
import errno
from collections.abc import Iterator

from data_pipelines.errors import InputError

_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EFBIG", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EPERM")
    if hasattr(errno, name)
}
"""Not the file's fault: these go on as they are."""


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Around everything that reads an input.

    HDF5, zarr, gzip, pandas and scipy raise a dozen kinds of exceptions over bytes that they do not expect.

    Args:
        where: file and slot.

    Raises:
        InputError: naming them, with the first line of the reason.
    """
    try:
        yield
    except (InputError, MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error  # without its quotes
        said = " ".join(next(iter(str(reason).splitlines()), "").split())[:300] or type(error).__name__
        raise InputError(f"{where} cannot be read ({said}). Copy or write it again.") from error
