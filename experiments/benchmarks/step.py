"""A whole training step, fused against naive gene layers: time, temporary memory, FLOPs, MFU; in one run.

    python -m experiments.benchmarks.step [--genes 18080] [--width 128] [--blocks 4] [--cells 16] [--slots 32 8]
    python -m experiments.benchmarks.step --experiment paper-s32 --cells 256        # an accelerator

Loss and gradients of the training objective. Both sides have the same blocks, attention, rematerialisation, batch and
noise, and their losses must agree. The limit is the blocks alone: no formulation of the gene layers is faster.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmarks.naive import naive_training_loss
from experiments.benchmarks.timing import Measured, measure, peak_flops
from experiments.configs import load_experiment
from experiments.flops import step_flops
from lingshu_jax.diffusion.objective import training_loss
from lingshu_jax.kernels.gene_head import KnownPlaces
from lingshu_jax.model import Denoiser, DenoiserConfig
from lingshu_jax.model.compression import GeneLayout, to_patches

EXPRESSED = 0.15
"""Share of the genes that a cell expresses."""


def small(slots: int, width: int, blocks: int) -> DenoiserConfig:
    """The paper's model at another size, in fp32."""
    return DenoiserConfig(
        genes_per_patch=slots, width=width, blocks=blocks, heads=width // 64, ffn_width=4 * width, dtype="float32"
    )


def make_cells(layout: GeneLayout, cells: int) -> tuple[Any, Any]:
    """Tokens (B, P, S), every gene measured, and the places of expressed genes."""
    rng = np.random.default_rng(0)
    tokens = rng.geometric(0.4, (cells, layout.genes)) * (rng.random((cells, layout.genes)) < EXPRESSED)
    capacity = int((tokens > 0).sum(1).max())
    genes = np.argsort(tokens == 0, axis=1, kind="stable")[:, :capacity]
    known = KnownPlaces(
        jnp.asarray(layout.place[genes]), jnp.zeros((1, *layout.gene_at.shape), bool), jnp.zeros(cells, jnp.int32)
    )
    return to_patches(jnp.asarray(tokens), jnp.asarray(layout.gene_at)), known


def losses(graph: Any) -> dict[str, Callable[..., Any]]:
    """name -> function of (parameters, fixed arrays, tokens, known places, positions, key)."""

    def fused(params: Any, fixed: Any, tokens: Any, known: Any, position: Any, key: Any) -> Any:
        return training_loss(nnx.merge(graph, params, fixed), tokens, {}, position, key, known)

    def naive(params: Any, fixed: Any, tokens: Any, known: Any, position: Any, key: Any) -> Any:
        return naive_training_loss(nnx.merge(graph, params, fixed), tokens, {}, position, key)

    def blocks(params: Any, fixed: Any, tokens: Any, known: Any, position: Any, key: Any) -> Any:
        model = nnx.merge(graph, params, fixed)
        inputs = jnp.zeros((*tokens.shape[:2], model.config.width), model.config.dtype)
        return model.transform(inputs, tokens, {})[0].astype(jnp.float32).sum()

    return {"naive": naive, "fused": fused, "blocks alone": blocks}


def compare(config: DenoiserConfig, genes: int, cells: int, names: tuple[str, ...]) -> dict[str, Measured]:
    """Measure loss and gradients of each formulation."""
    layout = GeneLayout.random(genes, config.genes_per_patch)
    model = Denoiser(config, layout, rngs=nnx.Rngs(0))
    graph, params, fixed = nnx.split(model, nnx.Param, ...)
    # The head starts at 0: some weights, so that the losses say something.
    params["w_head"][...] = 0.02 * jax.random.normal(jax.random.key(1), model.w_head[...].shape)
    tokens, known = make_cells(layout, cells)
    arguments = params, fixed, tokens, known, jnp.arange(cells), jax.random.key(0)
    return {name: measure(jax.value_and_grad(losses(graph)[name]), *arguments) for name in names}


def report(config: DenoiserConfig, genes: int, cells: int, names: tuple[str, ...]) -> None:
    """Measure and print one size."""
    found = compare(config, genes, cells, names)
    flops, peak = step_flops(config, genes=genes, cells=cells, conditions=0), peak_flops()
    print(
        f"{jax.devices()[0].device_kind}: G={genes:,} S={config.genes_per_patch} D={config.width} "
        f"{config.blocks} blocks, {cells} cells, {config.dtype}, {type(config.remat).__name__}"
    )
    for name, one in found.items():
        mfu = "" if peak is None else f", MFU {flops.naive / one.seconds / peak:.1%} of the naive count"
        mfu += "" if peak is None or name != "fused" else f", {flops.executed / one.seconds / peak:.1%} of the executed"
        memory = f"{one.temp_bytes / 2**20:,.0f} MiB temporary"
        print(f"  {name:<12} {one.seconds:.3f} s, {cells / one.seconds:,.1f} cells/s, {memory}{mfu}")
    if "naive" in found and "fused" in found:
        slow, fast = found["naive"], found["fused"]
        difference = abs(float(slow.result[0]) - float(fast.result[0])) / abs(float(slow.result[0]))
        limit = f" (limit {slow.seconds / found['blocks alone'].seconds:.2f}x)" if "blocks alone" in found else ""
        print(
            f"  fused against naive: {slow.seconds / fast.seconds:.2f}x{limit}, memory 1/"
            f"{slow.temp_bytes / max(1, fast.temp_bytes):.2f}, losses differ by {difference:.1e}"
        )
    print(
        f"  FLOPs of a step: naive {flops.naive / 1e12:.3f} T, executed {flops.executed / 1e12:.3f} T, blocks "
        f"{flops.blocks / flops.naive:.0%} of the naive",
        flush=True,
    )


def main() -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", help="take the model of an experiment instead of a small one")
    parser.add_argument("--genes", type=int, default=18_080)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 8])
    parser.add_argument("--only", nargs="+", default=["naive", "fused", "blocks alone"], help="formulations to measure")
    options = parser.parse_args()
    if options.experiment:
        models = [load_experiment(options.experiment).model]
    else:
        models = [small(slots, options.width, options.blocks) for slots in options.slots]
    for model in models:
        report(model, options.genes, options.cells, tuple(options.only))


if __name__ == "__main__":
    main()
