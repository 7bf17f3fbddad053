"""The version that each of our files carries: what is read, and what is said to a newer or an older one."""

from typing import Any

from data_pipelines.errors import InputError

FIRST = 1
"""Of files from before they said it."""


def check_format(what: str, found: Any, current: int, way_out: str, *, oldest: int = FIRST) -> int:
    """The version of a file that this program reads.

    Args:
        what: names the file, for messages.
        found: what the file says; None where it does not.
        current: what is written now.
        way_out: what else can be done, as a sentence.
        oldest: what can still be read.

    Raises:
        InputError: it is of a version that is not read here.
    """
    version = FIRST if found is None else found
    if not isinstance(version, int) or isinstance(version, bool) or version < FIRST:
        raise InputError(f"{what} is damaged: {str(found)[:40]!r} is no version of its format. {way_out}")
    if version > current:
        raise InputError(
            f"{what} was written by a newer lingshu_jax (format {version}; this one reads {current}). Update "
            f"lingshu_jax. Or: {way_out}"
        )
    if version < oldest:
        raise InputError(
            f"{what} was written by an older lingshu_jax (format {version}; this one reads {current}). {way_out}"
        )
    return version
