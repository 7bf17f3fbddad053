"""What XLA writes to memory for the parts of a block that no kernel of ours computes: RMSNorm and SwiGLU.

    python -m experiments.benchmarks.fusions                              # the device at hand
    PYTHONPATH=.venv/tpu python -m experiments.benchmarks.fusions --topology v5e:2x2      # after make check-tpu

For one block, forward and with gradients: the arrays of at least half the size of the residual stream that it writes,
by type and shape. Fused well, a norm writes nothing but its result, SwiGLU one gated product of the feed-forward width,
and no array of that size is fp32.
"""

import argparse
import collections
import functools
import math
import os
import re
from typing import Any

import jax
import jax.numpy as jnp

from experiments.check_tpu import tpu_devices
from experiments.configs import load_experiment
from lingshu_jax.kernels.attention import attention
from lingshu_jax.model.blocks import _block as one_block
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import compiled_for, make_mesh, replicated

FREE = {"parameter", "bitcast", "tuple", "get-tuple-element", "constant"}
"""Instructions that write nothing."""
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (\w+)\[([\d,]*)\]\S* ([\w-]+)\(")


def written(compiled: Any, smallest: int) -> collections.Counter[str]:
    """Arrays of at least so many numbers that instructions of the entry computation write."""
    text = compiled.as_text()
    found: collections.Counter[str] = collections.Counter()
    for line in text[text.index("\nENTRY ") :].splitlines():
        match = _INSTRUCTION.match(line)
        if match and match.group(3) not in FREE and not match.group(3).endswith("-start"):
            sizes = [int(size) for size in match.group(2).split(",") if size]
            if math.prod(sizes) >= smallest:
                found[f"{match.group(1)}[{match.group(2)}]"] += 1
    return found


def report(name: str, device: Any, cells: int, positions: int) -> None:
    """Compile one block of an experiment, forward and with gradients, and print what it writes."""
    config = load_experiment(name).model
    mesh = make_mesh(MeshConfig(), [device])
    width, ffn, heads, size = config.width, config.ffn_width, config.heads, config.width // config.heads
    shapes = {
        "attention_norm": (width,),
        "qkv": (width, 3, heads, size),
        "attention_out": (heads, size, width),
        "ffn_norm": (width,),
        "gate": (width, ffn),
        "up": (width, ffn),
        "down": (ffn, width),
    }

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(mesh))

    weights = {name: array(shape, jnp.float32) for name, shape in shapes.items()}
    x, segment_ids = array((cells, positions, width), jnp.dtype(config.dtype)), array((cells, positions), jnp.int32)

    def forward(x: Any, weights: Any, segment_ids: Any) -> Any:
        attend = functools.partial(attention, segment_ids=segment_ids, rope=jnp.arange(positions))
        return one_block(x, weights, attend=attend)[0]

    def loss(x: Any, weights: Any, segment_ids: Any) -> Any:
        return forward(x, weights, segment_ids).astype(jnp.float32).sum()

    print(f"{device.device_kind}: {name}, {cells} cells, {positions} positions, width {width}, feed-forward {ffn}")
    for label, function in (("forward", forward), ("with gradients", jax.grad(loss, argnums=(0, 1)))):
        with compiled_for(mesh):
            compiled = jax.jit(function).lower(x, weights, segment_ids).compile()
        arrays = written(compiled, cells * positions * width // 2)
        print(f"  {label}: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(arrays.items())), flush=True)


def main() -> None:
    """Compile for the device asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="paper-s32")
    parser.add_argument("--topology", help="compile for a TPU that is not here, such as v5e:2x2")
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--positions", type=int, default=567)
    options = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
    device = tpu_devices(options.topology)[0] if options.topology else jax.devices()[0]
    report(options.experiment, device, options.cells, options.positions)


if __name__ == "__main__":
    main()
