"""Gene-level layers, fused against naive: time and temporary memory of loss and gradients, in one run.

    python -m experiments.benchmarks.gene_layers [--genes 18080] [--width 128] [--cells 16] [--slots 32 8]

Naive: embed every gene, multiply by W_down; multiply by W_up, then by the head, and take the cross-entropy of all
(B, G, V) logits. Fused: token table in, tiles of logits out. Both in fp32, on the same tokens and weights; the values
must agree.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.benchmarks.timing import measure
from lingshu_jax.kernels.gene_head import GeneHead, KnownPlaces, patch_inputs, token_table, weighted_cross_entropy
from lingshu_jax.tokens import INPUT_VOCAB_SIZE, MASK, VOCAB_SIZE

Weights = dict[str, Array]
Cells = dict[str, Any]


def naive(weights: Weights, cells: Cells) -> Array:
    """The paper's formulation, gene by gene."""
    patches, slots = cells["noised"].shape[1:]
    width = weights["embedding"].shape[1]
    embedded = weights["embedding"][cells["noised"]]
    states = embedded.reshape(-1, patches, slots * width) @ weights["down"].reshape(slots * width, width)
    genes = jnp.einsum("bpd,dse->bpse", jnp.tanh(states), weights["up"])
    log_p = jax.nn.log_softmax(genes @ weights["head"], axis=-1)
    nll = -jnp.take_along_axis(log_p, cells["tokens"][..., None], axis=-1)[..., 0]
    return (nll * cells["weights"]).sum()


def fused(weights: Weights, cells: Cells) -> Array:
    """The same numbers without an array of (B, G, D) or (B, G, V)."""
    table = token_table(weights["embedding"], weights["down"], zero_origin=False, scale=1.0, dtype=jnp.dtype("float32"))
    states = patch_inputs(cells["noised"], table, cells["known"])
    matrix = jnp.einsum("dse,ev->sdv", weights["up"], weights["head"])
    return weighted_cross_entropy(GeneHead(jnp.tanh(states), matrix, None, None), cells["tokens"], cells["weights"])


def make_inputs(genes: int, width: int, cells: int, slots: int) -> tuple[Weights, Cells]:
    """Random weights, and cells of which about one gene in seven is expressed and half are masked."""
    rng = np.random.default_rng(0)
    patches = -(-genes // slots)
    shape = (cells, patches, slots)
    tokens = rng.geometric(0.4, shape) * (rng.random(shape) < 1 / 7)
    masked = rng.random(shape) < 0.5
    capacity = (tokens > 0).sum((1, 2)).max()
    places = np.argsort(tokens.reshape(cells, -1) == 0, axis=1, kind="stable")[:, :capacity]

    def normal(*size: int, scale: float) -> Array:
        return jnp.asarray(rng.normal(scale=scale, size=size), jnp.float32)

    weights = {
        "embedding": normal(INPUT_VOCAB_SIZE, width, scale=1.0),
        "down": normal(slots, width, width, scale=(slots * width) ** -0.5),
        "up": normal(width, slots, width, scale=width**-0.5),
        "head": normal(width, VOCAB_SIZE, scale=width**-0.5),
    }
    noised = np.where(masked, MASK, tokens)
    return weights, {
        "tokens": jnp.asarray(tokens),
        "noised": jnp.asarray(noised),
        "weights": jnp.asarray(masked / tokens.size, jnp.float32),
        "known": KnownPlaces(jnp.asarray(places), jnp.zeros((1, patches, slots), bool), jnp.zeros(cells, jnp.int32)),
    }


def report(genes: int, width: int, cells: int, slots: int) -> None:
    """Measure and print one size."""
    weights, inputs = make_inputs(genes, width, cells, slots)
    slow, fast = (measure(jax.value_and_grad(function), weights, inputs) for function in (naive, fused))
    worst = max(
        float(jnp.abs(a - b).max() / jnp.abs(a).max())
        for a, b in zip(jax.tree.leaves(slow.result[1]), jax.tree.leaves(fast.result[1]), strict=True)
    )
    print(f"{jax.devices()[0].device_kind}: G={genes:,} D={width} S={slots}, {cells} cells, fp32")
    losses = f"{float(slow.result[0]):.6f} naive, {float(fast.result[0]):.6f} fused"
    print(f"  loss {losses}; largest gradient error {worst:.1e}")
    times = f"{slow.seconds:.3f} s naive, {fast.seconds:.3f} s fused"
    print(f"  time {times}: {slow.seconds / fast.seconds:.1f}x (target >= 3x)")
    print(
        f"  temporary memory {slow.temp_bytes / 2**20:,.0f} MiB naive, {fast.temp_bytes / 2**20:,.0f} MiB fused: 1/"
        f"{slow.temp_bytes / fast.temp_bytes:.1f} (target <= 1/4)",
        flush=True,
    )


def main() -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("genes", 18_080), ("width", 128), ("cells", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--slots", type=int, nargs="+", default=[32, 8])
    options = parser.parse_args()
    for slots in options.slots:
        report(options.genes, options.width, options.cells, slots)


if __name__ == "__main__":
    main()
