"""A tiny joint distribution written down by hand, with its exact conditionals as a denoiser."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lingshu_jax.tokens import MASK

GENES, TOKENS = 4, 3
CELLS = np.array(list(itertools.product(range(TOKENS), repeat=GENES)))  # every cell there can be, (81, 4)


def joint(seed: int = 0) -> np.ndarray:
    """Probabilities of all 81 cells, float64: far from independent genes."""
    weight = np.random.default_rng(seed).gamma(0.3, size=len(CELLS)) + 1e-3
    return weight / weight.sum()


def exact_denoiser(probabilities: np.ndarray):
    """(tokens (B, 4), conditions) -> logits (B, 4, 3): the joint's own conditionals given the unmasked genes."""
    cells = jnp.asarray(CELLS)
    one_hot = jnp.asarray(np.eye(TOKENS)[CELLS])  # (81, 4, 3)

    def logits(tokens, conditions):
        fits = ((tokens[:, None] == MASK) | (tokens[:, None] == cells)).all(-1)  # (B, 81)
        weight = fits * jnp.asarray(probabilities)
        return jnp.log(jnp.einsum("bc,cgv->bgv", weight, one_hot) / weight.sum(-1)[:, None, None] + 1e-30)

    return logits


def independent_denoiser(probabilities: np.ndarray):
    """The product of the joint's marginals, whatever is visible."""
    marginals = np.einsum("c,cgv->gv", probabilities, np.eye(TOKENS)[CELLS])

    def logits(tokens, conditions):
        return jnp.broadcast_to(jnp.log(jnp.asarray(marginals)), (len(tokens), GENES, TOKENS))

    return logits


def depth_cells(cells: int, genes: int, *, seed: int = 0) -> np.ndarray:
    """Counts (n, G) of genes that share nothing but the cell's depth: log-normal with standard deviation .5."""
    rng = np.random.default_rng(seed)
    return rng.poisson(DEPTHS[rng.choice(len(DEPTHS), cells, p=DEPTH_WEIGHTS)][:, None] * np.full(genes, RATE))


def depth_denoiser(tokens, conditions):
    """(tokens (B, G), conditions) -> logits (B, G, V): the exact conditionals of `depth_cells`."""
    visible = tokens != MASK
    total, seen = jnp.where(visible, tokens, 0).sum(1), visible.sum(1)
    depths = jnp.asarray(DEPTHS, jnp.float32)
    log_post = jnp.log(DEPTH_WEIGHTS) + total[:, None] * jnp.log(depths) - seen[:, None] * RATE * depths
    log_post = log_post - jax.nn.logsumexp(log_post, axis=1, keepdims=True)  # (B, depths)
    counts = jnp.arange(COUNTS)
    rate = RATE * depths[:, None]
    log_mass = counts * jnp.log(rate) - rate - jax.lax.lgamma(counts + 1.0)  # (depths, V)
    logits = jax.nn.logsumexp(log_post[:, :, None] + log_mass, axis=1)
    return jnp.broadcast_to(logits[:, None], (*tokens.shape, COUNTS))


RATE, COUNTS = 0.5, 16
DEPTHS = np.exp(np.linspace(-1.5, 1.5, 25))
DEPTH_WEIGHTS = np.exp(-0.5 * (np.log(DEPTHS) / 0.5) ** 2)
DEPTH_WEIGHTS /= DEPTH_WEIGHTS.sum()
