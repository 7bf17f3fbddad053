"""Time, temporary memory and results of compiled functions."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Measured:
    """One compiled function."""

    result: Any
    seconds: float
    """The best of several runs."""
    temp_bytes: int
    """Temporary memory, by the compiler's own account."""


def measure(function: Callable[..., Any], *arguments: Any, runs: int = 3) -> Measured:
    """Compile, run once, and time the next runs. Arrays must be arguments: what is closed over is folded away."""
    compiled = jax.jit(function).lower(*arguments).compile()
    result = jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - begin)
    memory = compiled.memory_analysis()
    return Measured(result, min(seconds), 0 if memory is None else memory.temp_size_in_bytes)


def peak_flops() -> float | None:
    """The vendor's dense bf16 peak of the device, FLOP/s; None where it is not known."""
    kind = jax.devices()[0].device_kind.lower()
    known = {
        "h100": 989e12,
        "h200": 989e12,
        "a100": 312e12,
        "v5 lite": 197e12,
        "v5e": 197e12,
        "v5p": 459e12,
        "v6": 918e12,
    }
    return next((peak for name, peak in known.items() if name in kind), None)
