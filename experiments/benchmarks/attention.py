"""Every attention implementation that runs here: time, rate and memory of forward, and of forward and backward.

    python -m experiments.benchmarks.attention [--cells 8] [--positions 567 2262] [--heads 10] [--size 64]

bf16, RoPE fused or before, the last 5 % of the positions empty. Rates count the two products of the forward pass, and
five more of a backward pass that keeps no scores. Errors are against XLA in fp32.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import measure, peak_flops
from lingshu_jax.kernels import attention
from lingshu_jax.kernels.attention import IMPLEMENTATIONS

FORWARD, BACKWARD = 2, 5
"""Products of (n, K) and (K, n) matrices."""


def run(name: str, q: Any, k: Any, v: Any, segment_ids: Any, d_out: Any | None = None) -> Any:
    """The output; with `d_out` the gradients too."""
    forward = functools.partial(
        attention, segment_ids=segment_ids, rope=jnp.arange(q.shape[1]), implementation=IMPLEMENTATIONS[name]
    )
    if d_out is None:
        return forward(q, k, v)
    out, pull = jax.vjp(forward, q, k, v)
    return out, *pull(d_out.astype(out.dtype))


def error(found: Any, expected: Any) -> float:
    """Largest difference, relative to the largest value, over all arrays."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.abs(x.astype(jnp.float32) - y).max() / jnp.abs(y).max()) for x, y in pairs)


def report(cells: int, positions: int, heads: int, size: int) -> None:
    """Measure and print one shape."""
    shape = (cells, positions, heads, size)
    wide = [jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0), 4)]
    arrays = [x.astype(jnp.bfloat16) for x in wide]
    segment_ids = jnp.broadcast_to(jnp.arange(positions) < 0.95 * positions, shape[:2]).astype(jnp.int32)
    product, peak = 2 * cells * heads * positions**2 * size, peak_flops()
    expected = jax.jit(functools.partial(run, "xla"))(
        *(x.astype(jnp.float32) for x in arrays[:3]), segment_ids, wide[3]
    )
    print(f"{jax.devices()[0].device_kind}: {cells} cells, N={positions:,}, {heads} heads of {size}, bf16", flush=True)
    for name in IMPLEMENTATIONS:
        try:
            forward = measure(functools.partial(run, name), *arrays[:3], segment_ids)
            both = measure(functools.partial(run, name), *arrays[:3], segment_ids, arrays[3])
        except Exception as reason:  # whatever a library says of a device that it is not for
            print(f"  {name:<11} not here: {str(reason).strip().splitlines()[0][:90]}")
            continue
        rates = [FORWARD * product / forward.seconds, (FORWARD + BACKWARD) * product / both.seconds]
        used = "" if peak is None else f" ({rates[0] / peak:.0%} and {rates[1] / peak:.0%} of the peak)"
        print(
            f"  {name:<11} forward {1e3 * forward.seconds:.2f} ms, with backward {1e3 * both.seconds:.2f} ms; "
            f"{rates[0] / 1e12:.2f} and {rates[1] / 1e12:.2f} TFLOP/s{used}; {both.temp_bytes / 2**20:,.0f} MiB "
            f"temporary; error {error(both.result, expected):.0e}",
            flush=True,
        )


def main() -> None:
    """Measure the shapes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--positions", type=int, nargs="+", default=[567, 2262])
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    for positions in options.positions:
        report(options.cells, positions, options.heads, options.size)


if __name__ == "__main__":
    main()
