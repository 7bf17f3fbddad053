"""How long work reports: a callable that is handed in; modules never print."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total); done == total ends the stage."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
