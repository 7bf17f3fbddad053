"""A model of a few thousand weights on 37 genes, and cells to show it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lingshu_jax.label_terms import LowRankRates, label_terms, term_name
from lingshu_jax.model import Denoiser, DenoiserConfig, DepthNB, KeepAll, LowRankFactors, NoFactors
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.statistics import StartStatistics
from lingshu_jax.tokens import VOCAB_SIZE, encode_counts
from lingshu_jax.vocabulary import NULL_ROW, ConditionField, ConditionVocabulary

GENES, SLOTS = 37, 4
VOCABULARY = ConditionVocabulary(
    (
        ConditionField(name="line", labels=("A", "B")),
        ConditionField(name="target", kind="perturbation", labels=("X", "Y"), controls=("ctrl",)),
    )
)
CONFIG = DenoiserConfig(
    genes_per_patch=SLOTS,
    width=16,
    blocks=2,
    heads=2,
    ffn_width=32,
    start=DepthNB(label_rank=4),
    factors=LowRankFactors(rank=3),
    zero_origin=True,
    input_scale=2.0,
    dtype="float32",
    remat=KeepAll(),
)


def counts(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mean = np.exp(np.random.default_rng(99).normal(size=GENES))
    depth = rng.lognormal(0, 0.5, size=(n, 1))
    return rng.poisson(rng.gamma(2.0, depth * mean / 2.0))


def cells(n: int, seed: int = 0) -> jax.Array:
    """Tokens (n, G)."""
    return jnp.asarray(encode_counts(counts(n, seed)).astype(np.int32))


@functools.cache
def statistics() -> StartStatistics:
    x = counts(400, seed=7)
    tokens = encode_counts(x)
    histogram = np.stack([np.bincount(tokens[:, g], minlength=VOCAB_SIZE) for g in range(GENES)])
    effects = {field.name: np.linspace(-0.2, 0.2, field.rows) for field in VOCABULARY.fields}
    return StartStatistics(histogram, x.mean(0) + 1e-3, np.full(GENES, 2.0), effects, effects, 0.25, rates=rates())


def rates(vocabulary: ConditionVocabulary = VOCABULARY) -> LowRankRates:
    """Shifts of about 0.3 for every label and pair."""
    rng, tables = np.random.default_rng(5), {}
    rank = CONFIG.start.label_rank
    for term in label_terms(vocabulary):
        table = rng.normal(0, 0.3 / rank**0.5, (*(field.rows for field in term), rank))
        table[NULL_ROW] = 0.0
        table[(slice(None),) * (len(term) - 1) + (NULL_ROW,)] = 0.0
        tables[term_name(term)] = table.astype(np.float32)
    return LowRankRates(rng.normal(size=(GENES, rank)).astype(np.float32), tables, np.full(GENES, 2.0))


def conditions(n: int) -> dict[str, jax.Array]:
    return {"line": jnp.arange(n, dtype=jnp.int32) % 2 + 1, "target": jnp.arange(n, dtype=jnp.int32) % 3 + 1}


def denoiser(*, trained: bool = False, vocabulary: ConditionVocabulary = VOCABULARY, **settings) -> Denoiser:
    """A fresh model; with `trained`, every weight is moved, so that all of them matter."""
    if not isinstance(settings.get("start", CONFIG.start), DepthNB):
        settings.setdefault("factors", NoFactors())
    config = dataclasses.replace(CONFIG, **settings)
    layout = GeneLayout.random(GENES, config.genes_per_patch)
    model = Denoiser(config, layout, vocabulary, statistics=statistics(), rngs=nnx.Rngs(0))
    return moved(model) if trained else model


def moved(model: Denoiser, scale: float = 0.1) -> Denoiser:
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noisy = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, noisy), rest)
