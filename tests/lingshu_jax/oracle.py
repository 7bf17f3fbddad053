"""A tiny joint distribution written down by hand, with its exact conditionals as a denoiser."""

import itertools

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
