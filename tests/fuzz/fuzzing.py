"""Runs a parser on what hypothesis thinks of, and tells what came out of it that is not ours."""

import contextlib
import io
import pathlib
import tempfile
import time
import traceback
import warnings
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import OURS, Target


class Found:
    """What became of the inputs of one target."""

    def __init__(self) -> None:
        self.inputs = 0
        self.uncaught: dict[str, bytes] = {}
        """Exception and place -> the first input."""
        self.refusals: Counter[str] = Counter()


def fuzz(target: Target, *, examples: int, start: int = 0, seconds: float | None = None) -> Found:
    """Try inputs, `examples` of them, or for a time."""
    found, number, end = Found(), start, time.monotonic() + (seconds or 0)
    while True:
        _batch(target, found, examples, number, None if seconds is None else end)
        number += 1
        if seconds is None or time.monotonic() >= end:
            return found


def _batch(target: Target, found: Found, examples: int, number: int, end: float | None) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(target.inputs)
    def each(content: bytes) -> None:
        if end is None or time.monotonic() < end:
            attempt(target, content, found)

    each()


def attempt(target: Target, content: bytes, found: Found) -> None:
    """One input: noted where something other than an error of ours comes out."""
    found.inputs += 1
    quiet = io.StringIO()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz") as folder,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        warnings.simplefilter("ignore")
        try:
            target.parse(content, pathlib.Path(folder))
        except OURS as error:
            found.refusals[type(error).__name__] += 1
            if not str(error) or "\n" in str(error):
                found.uncaught.setdefault(f"{type(error).__name__} of more than one line: {error!r}", content)
        except Exception as error:
            found.uncaught.setdefault(_place(error), content)


def _place(error: Exception) -> str:
    """The exception, and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if "/site-packages/" not in frame.filename and "/lib/python" not in frame.filename
    ]
    last = ours[-1]
    return f"{type(error).__name__} at {pathlib.Path(last.filename).name}:{last.lineno}"
