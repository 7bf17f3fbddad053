"""Time, temporary memory and results of compiled functions."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments.accelerators import accelerator_of


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
    chip = accelerator_of(jax.devices()[0].device_kind)
    return None if chip is None else chip.peak_flops
