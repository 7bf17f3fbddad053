"""Compile the attention kernel and the paper's training and sampling steps for TPU pods, with or without a TPU.

    make check-tpu                                        # about fifteen minutes on two cores
    python -m experiments.check_tpu --topology v5e:16x16 --experiment paper-s32 --fsdp 8

The compiler of the extra `tpu` needs no TPU: it compiles for a named topology. Each line tells what was compiled, for
which chip, how much of its memory it takes, how long that took, and for training steps the estimate of `--dry-run`
beside it, and what the chips send each other: bytes by kind, and the share of a step that this takes at published
rates. Exit status 1 when something does not compile or does not fit.
"""

import argparse
import dataclasses
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from experiments.collectives import find_collectives
from experiments.configs import load_experiment
from experiments.flops import StepFlops
from experiments.hardware import Hardware, named
from experiments.scaling import ASSUMED_UTILISATION, CELLS_PER_CHIP, flops_of_chip
from lingshu_jax.parallel.config import MeshConfig

LENGTHS = (567, 2262)
"""Positions of paper-s32 and paper-s8: patches and two condition tokens."""


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
    parser.add_argument("--topology", nargs="+", default=["v5e:16x16", "v5p:8x8x8", "v6e:16x16"])
    parser.add_argument("--experiment", nargs="+", default=["paper-s32", "paper-s8"])
    parser.add_argument("--fsdp", type=int, help="chips that share one copy of the parameters; chosen by default")
    parser.add_argument("--tensor", type=int, help="chips that share heads and positions; chosen by default")
    parser.add_argument("--steps-only", action="store_true", help="leave the attention kernel alone out")
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
        hardware = named(topology)
        limit = hardware.memory_bytes
        print(f"{topology}: {len(devices)} x {devices[0].device_kind}", flush=True)
        mesh = MeshConfig(fsdp=options.fsdp, tensor=options.tensor)
        alone = () if options.steps_only else kernels(devices[:1])
        for result in itertools.chain(alone, steps(devices, hardware, options.experiment, mesh)):
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


def steps(devices: list[Any], hardware: Hardware, names: list[str], wanted: MeshConfig) -> Iterator[Compiled]:
    """Whole training and sampling steps on all chips."""
    from experiments.ahead_of_time import lower_sampling_step, lower_training_step
    from experiments.blueprint import Blueprint, Cells
    from experiments.memory import estimate_memory
    from lingshu_jax.parallel.mesh import make_mesh

    cells = CELLS_PER_CHIP * len(devices)
    for name in names:
        experiment = load_experiment(name)
        blueprint = Blueprint(dataclasses.replace(experiment, mesh=wanted), Cells(), cells)
        config = blueprint.mesh(hardware)
        mesh = make_mesh(config, devices)
        on = f"{CELLS_PER_CHIP} cells per chip, data {config.data}, fsdp {config.fsdp}, tensor {config.tensor}"
        flops = StepFlops(blueprint.flops(hardware).naive / len(devices), flops_of_chip(blueprint, config))
        estimated = estimate_memory(blueprint, config, "tpu").total
        yield compiled(
            f"{name} training step, {on}",
            lower_training_step(blueprint, mesh, cells=cells),
            lambda hlo, flops=flops, estimated=estimated: _exchange(hlo, flops, estimated, hardware),
        )
        yield compiled(f"{name} sampling step, {on}", lower_sampling_step(blueprint, mesh, cells=cells))


def _exchange(hlo: str, flops: StepFlops, estimated: float, hardware: Hardware) -> str:
    """What a training step computes and sends, and how long that takes at published rates."""
    sent, chip = find_collectives(hlo), hardware.chip
    assert chip is not None
    sending = sum(sent.bytes_sent.values()) / chip.ring_bytes
    computing = flops.executed / (ASSUMED_UTILISATION * chip.peak_flops)
    return (
        f"\n       estimated {estimated / 2**30:.2f} GiB; {flops.naive / 1e12:.2f} TFLOP per chip "
        f"naive, {flops.executed / 1e12:.2f} executed; {sent}"
        f"\n       at published rates {computing * 1e3:.0f} ms of products ({ASSUMED_UTILISATION:.0%} of peak), "
        f"{sending * 1e3:.1f} ms of sending (one axis of the torus): {sending / (sending + computing):.1%} of a step "
        "if nothing overlaps"
    )


def compiled(what: str, lowered: Any, more: Callable[[str], str] = lambda hlo: "") -> Compiled:
    """Compile one program; `more` tells of its text."""
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
        more=more(program.as_text()),
    )


if __name__ == "__main__":
    sys.exit(main())
