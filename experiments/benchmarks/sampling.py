"""The sampler against a straightforward one: cells per second of few guided and of many unguided steps, in one run.

    python -m experiments.benchmarks.sampling [--genes 18080] [--width 128] [--blocks 4] [--cells 16] [--slots 32]

Straightforward: one jitted function per step that predicts every gene from scratch, once per branch of the guidance,
draws all of them and keeps those whose turn it is. Same blocks, attention, batch, schedule and weights; the model is
the paper's, without a depth of its own, so cells of a condition share their first step.
"""

import argparse
import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmarks.naive import naive_logits
from experiments.benchmarks.step import small
from lingshu_jax.diffusion import ControlGuidance, CosineSchedule, NoGuidance, SamplerConfig, sample
from lingshu_jax.diffusion.schedule import masked_after
from lingshu_jax.model import Denoiser
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.tokens import MASK
from lingshu_jax.vocabulary import CONTROL_ROW, ConditionField, ConditionVocabulary

TARGET = "target"
VOCABULARY = ConditionVocabulary((ConditionField(name=TARGET, kind="perturbation", labels=("A",), controls=("ctrl",)),))
PERTURBED = VOCABULARY.perturbation.row_set("A")[0] if VOCABULARY.perturbation else 0


@functools.partial(jax.jit, static_argnums=(0, 6))
def straightforward_step(graph: Any, arrays: Any, tokens: Any, turn: Any, scale: Any, key: Any, guided: bool) -> Any:
    """Predict, draw and keep: tokens (B, P, S) before and after a step."""
    model = nnx.merge(graph, arrays)
    rows = jnp.full(tokens.shape[0], PERTURBED)
    logits = naive_logits(model, tokens, {TARGET: rows})
    if guided:
        control = naive_logits(model, tokens, {TARGET: jnp.full_like(rows, CONTROL_ROW)})
        logits = control + (scale + 1.0) * (logits - control)
    return jnp.where(turn, jax.random.categorical(key, logits), tokens)


def straightforward(model: Denoiser, cells: int, config: SamplerConfig, key: Any) -> np.ndarray:
    """Tokens (B, P, S) of whole cells."""
    graph, arrays = nnx.split(model)
    genes = model.gene_at[...] < model.genes
    tokens = jnp.broadcast_to(jnp.where(genes, MASK, MASK + 2), (cells, *genes.shape)).astype(jnp.int32)
    ranks = jnp.argsort(jnp.argsort(jnp.where(genes, jax.random.uniform(key, tokens.shape), 2.0).reshape(cells, -1)))
    ranks = ranks.reshape(tokens.shape)
    steps = config.schedule.steps
    for k in range(1, steps + 1):
        revealed = model.genes - int(masked_after(config.schedule, k, np.array([model.genes]))[0])
        scale = config.guidance.scale_at(k, steps)
        turn = (tokens == MASK) & (ranks < revealed)
        step_key = jax.random.fold_in(key, k)
        tokens = straightforward_step(graph, arrays, tokens, turn, np.float32(scale), step_key, bool(scale))
    return np.asarray(tokens)


def best(run: Any, runs: int = 2) -> float:
    """Seconds of the fastest run after one that compiles."""
    run()
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def report(model: Denoiser, cells: int, chunks: int, config: SamplerConfig, what: str, target: float) -> None:
    """Measure and print one setting, on `chunks` batches."""
    key = jax.random.key(0)
    conditions = {TARGET: np.full(cells * chunks, PERTURBED, np.int32)}
    ours = best(lambda: sample(model, conditions, config, key))
    theirs = best(lambda: [straightforward(model, cells, config, key) for _ in range(chunks)])
    rates = cells * chunks / ours, cells * chunks / theirs
    print(
        f"  {what}: {rates[0]:.3g} cells/s, straightforward {rates[1]:.3g} cells/s: {theirs / ours:.2f}x "
        f"(wanted {target}x)",
        flush=True,
    )


def main() -> None:
    """Measure both settings of the paper."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=18_080)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--cells", type=int, default=16, help="rows of a forward pass")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--steps", type=int, default=256, help="of the unguided setting")
    options = parser.parse_args()
    config = small(options.slots, options.width, options.blocks)
    layout = GeneLayout.random(options.genes, options.slots)
    model = Denoiser(config, layout, VOCABULARY, rngs=nnx.Rngs(0))
    model.w_head[...] = 0.02 * jax.random.normal(jax.random.key(1), model.w_head[...].shape)
    print(f"{jax.devices()[0].device_kind}: G={options.genes:,} S={options.slots} D={options.width}, fp32")
    plain = SamplerConfig(cells_per_device=options.cells)
    guided = dataclasses.replace(plain, schedule=CosineSchedule(steps=3), guidance=ControlGuidance(scale=2.0))
    many = dataclasses.replace(plain, schedule=CosineSchedule(steps=options.steps), guidance=NoGuidance())
    report(model, options.cells, 8, guided, "3 guided steps", 1.8)
    report(model, options.cells, 1, many, f"{options.steps} steps", 1.3)


if __name__ == "__main__":
    main()
