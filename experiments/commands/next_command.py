"""The last line of most commands: what to type next, ready to paste."""

import shlex
from collections.abc import Iterable


def print_next(arguments: Iterable[object]) -> None:
    """Print the next `lingshu` command, quoted for a shell."""
    print(f"next: {shlex.join(['lingshu', *(str(argument) for argument in arguments)])}")
