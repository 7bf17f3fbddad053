"""Names beside an output for what is not finished. They say whose they are: what the dead left is removed."""

import contextlib
import glob
import hashlib
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def unfinished(out: pathlib.Path, suffix: str = "") -> Iterator[pathlib.Path]:
    """A hidden path of the folder of `out` to write to; put it in its place within the context, or it is removed.

    What writers of `out` left that are dead is removed first; what living ones, and those of other machines, have
    there is left alone.

    Args:
        out: the file or folder to be.
        suffix: of the path, for libraries that look at it.
    """
    remove_leftovers(out)
    path = out.with_name(f".{out.name}.{_writer()}.partial{suffix}")
    try:
        yield path
    finally:
        remove(path)


def put_in_place(partial: pathlib.Path, out: pathlib.Path) -> None:
    """Give what is written its name; a folder that is there goes away."""
    if not out.is_dir():
        partial.replace(out)
        return
    old = out.with_name(f".{out.name}.{_writer()}.old")
    out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(out: pathlib.Path) -> None:
    """Remove what dead writers of `out` left beside it; a folder that one moved away and did not replace is back."""
    own = re.compile(rf"\.{re.escape(out.name)}\.([0-9a-f]{{8}})-([0-9]+)\.(partial|old)")
    for path in out.parent.glob(f".{glob.escape(out.name)}.*"):
        found = own.match(path.name)
        if found is None or found[1] != _machine() or _alive(int(found[2])):
            continue
        if found[3] == "old" and not out.exists():
            path.rename(out)
        else:
            remove(path)


def remove(path: pathlib.Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _writer() -> str:
    return f"{_machine()}-{os.getpid()}"


def _machine() -> str:
    """Where a process id means a process: a machine, or a container of it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.blake2b(f"{socket.gethostname()} {namespace}".encode(), digest_size=4).hexdigest()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
