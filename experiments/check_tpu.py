"""Compile the attention kernel and the paper's training and sampling steps for TPU pods, with or without a TPU.

    make check-tpu                                        # about ten minutes on two cores
    python -m experiments.check_tpu --topology v5e:16x16 --experiment paper-s32

The compiler of the extra `tpu` needs no TPU: it compiles for a named topology. Each line tells what was compiled, for
which chip, how much of its memory it takes, how long that took, and for steps what the chips send each other. Exit
status 1 when something does not compile or does not fit.
"""

import argparse
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from experiments.collectives import find_collectives
from experiments.flops import step_flops

CELLS_PER_CHIP = 16
GENES, CAPACITY = 18_080, 6_000
"""A whole transcriptome, and the most expressed genes of any cell."""
LENGTHS = (567, 2262)
"""Positions of paper-s32 and paper-s8: patches and two condition tokens."""
CHIP_BYTES = {"v5e": 15.75 * 2**30, "v5p": 95.0 * 2**30, "v6e": 31.25 * 2**30}
"""What a program can use of a chip's memory."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What became of one program."""

    what: str
    error: str | None
    bytes_per_chip: int = 0
    seconds: float = 0.0
    more: str = ""

    def line(self, limit: float) -> str:
        """For a terminal."""
        if self.error:
            return f"FAIL {self.what}: {self.error}"
        fits = "ok  " if self.bytes_per_chip <= limit else "FAIL"
        size = f"{self.bytes_per_chip / 2**30:.2f} of {limit / 2**30:.2f} GiB per chip"
        return f"{fits} {self.what}: {size}; compiled in {self.seconds:.0f} s{self.more}"


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", nargs="+", default=["v5e:16x16", "v5p:4x4x4", "v6e:8x8"])
    parser.add_argument("--experiment", nargs="+", default=["paper-s32", "paper-s8"])
    parser.add_argument("--fsdp", type=int, default=8, help="chips that share one copy of the parameters")
    options = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
    failed = 0
    for topology in options.topology:
        try:
            devices = tpu_devices(topology)
        except Exception as error:
            reason = str(error).splitlines()[0]
            print(f"no TPU compiler for {topology} ({reason}). Install it with: pip install 'lingshu-jax[tpu]'")
            return 2
        limit = CHIP_BYTES.get(topology.split(":")[0], float("inf"))
        print(f"{topology}: {len(devices)} x {devices[0].device_kind}", flush=True)
        for result in (*kernels(devices[:1]), *steps(devices, options.experiment, options.fsdp)):
            failed += result.error is not None or result.bytes_per_chip > limit
            print("  " + result.line(limit), flush=True)
    print(f"{failed} failed" if failed else "everything compiles and fits")
    return 1 if failed else 0


def tpu_devices(topology: str) -> list[Any]:
    """Descriptions of the chips of a topology."""
    from jax.experimental import topologies

    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)


def kernels(devices: list[Any]) -> Iterator[Compiled]:
    """The attention kernel alone, forward and backward, in bf16."""
    import jax
    import jax.numpy as jnp

    from lingshu_jax.kernels import attention
    from lingshu_jax.parallel.config import MeshConfig
    from lingshu_jax.parallel.mesh import compiled_for, make_mesh, replicated

    mesh = make_mesh(MeshConfig(), devices)
    for length in LENGTHS:
        shape = jax.ShapeDtypeStruct((8, length, 10, 64), jnp.bfloat16, sharding=replicated(mesh))
        segment_ids = jax.ShapeDtypeStruct((8, length), jnp.int32, sharding=replicated(mesh))

        def forward(q: Any, k: Any, v: Any, s: Any, length: int = length) -> Any:
            return attention(q, k, v, s, rope=jnp.arange(length), implementation="pallas_tpu")

        def both(q: Any, k: Any, v: Any, s: Any, forward: Any = forward) -> Any:
            out, pull = jax.vjp(functools.partial(forward, s=s), q, k, v)
            return out, pull(out)

        for name, function in (("forward", forward), ("forward and backward", both)):
            with compiled_for(mesh):
                lowered = jax.jit(function).lower(shape, shape, shape, segment_ids)
            yield compiled(f"attention {name}, 8 cells x 10 heads, N = {length:,}", lowered)


def steps(devices: list[Any], names: list[str], fsdp: int) -> Iterator[Compiled]:
    """Whole training and sampling steps on all chips."""
    from experiments.ahead_of_time import lower_sampling_step, lower_training_step
    from experiments.configs import load_experiment
    from lingshu_jax.parallel.config import MeshConfig
    from lingshu_jax.parallel.mesh import make_mesh

    mesh = make_mesh(MeshConfig(fsdp=fsdp), devices)
    cells = CELLS_PER_CHIP * len(devices)
    for name in names:
        experiment = load_experiment(name)
        training = lower_training_step(experiment, mesh, cells=cells, genes=GENES, capacity=CAPACITY)
        blocks = experiment.model.blocks
        flops = step_flops(experiment.model, genes=GENES, cells=CELLS_PER_CHIP, one_hot=True)
        counted = f"{flops.naive / 1e12:.2f} TFLOP per chip naive, {flops.executed / 1e12:.2f} executed"
        yield compiled(f"{name} training step, {CELLS_PER_CHIP} cells per chip, {counted}", training, blocks)
        sampling = lower_sampling_step(experiment, mesh, cells=cells, genes=GENES)
        yield compiled(f"{name} sampling step, {CELLS_PER_CHIP} cells per chip", sampling, blocks)


def compiled(what: str, lowered: Any, blocks: int | None = None) -> Compiled:
    """Compile one program; with `blocks`, count what it sends too."""
    start = time.perf_counter()
    try:
        program = lowered.compile()
    except Exception as error:
        return Compiled(what, str(error).splitlines()[0])
    memory = program.memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Compiled(
        what,
        None,
        bytes_per_chip=used - memory.alias_size_in_bytes,
        seconds=time.perf_counter() - start,
        more="" if blocks is None else f"; {find_collectives(program.as_text(), blocks=blocks)}",
    )


if __name__ == "__main__":
    sys.exit(main())
