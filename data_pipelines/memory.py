"""What becomes of freed memory, where glibc is the allocator."""

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_KEPT = 256 * 2**20
_LARGEST = 32 * 2**20
"""The most that glibc accepts."""


@functools.cache
def keep_freed_memory() -> None:
    """Let freed memory be used for the next batch instead of going back to the system; once per process.

    Every batch is a few arrays of megabytes. Mapped anew each time, their pages are zeroed one by one, which takes
    longer than reading the cells. At most 256 MB are kept. Does nothing with other allocators.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _LARGEST)


def hand_back_freed_memory() -> None:
    """Give freed memory back to the system: after a task, other threads would not find what this one leaves."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
