import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.diffusion import masked_loss
from lingshu_jax.tokens import MASK
from tests.lingshu_jax.oracle import CELLS, GENES, exact_denoiser, independent_denoiser, joint


def exact_bound(logits_of, cells):
    """The loss integrated over t: every one of the 2^4 masks with its weight (m-1)! (n-m)! / n!."""
    total = np.zeros(len(cells))
    for mask in itertools.product([False, True], repeat=GENES):
        m = sum(mask)
        if m == 0:
            continue
        weight = math.factorial(m - 1) * math.factorial(GENES - m) / math.factorial(GENES)
        masked = jnp.broadcast_to(jnp.array(mask), cells.shape)
        noised = jnp.where(masked, MASK, cells)
        total += weight * np.asarray(masked_loss(logits_of(noised, {}), cells, masked, jnp.ones(len(cells))))
    return total


def test_the_exact_denoiser_attains_minus_log_p():
    probabilities = joint()
    with jax.enable_x64(True):
        bound = exact_bound(exact_denoiser(probabilities), jnp.asarray(CELLS))
    np.testing.assert_allclose(bound, -np.log(probabilities), atol=1e-6)


@pytest.mark.parametrize("other", ["independent", "noisy"])
def test_any_other_denoiser_is_above_on_average(other):
    probabilities = joint()
    exact, independent = exact_denoiser(probabilities), independent_denoiser(probabilities)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, GENES, 3)))
    model = independent if other == "independent" else lambda tokens, c: exact(tokens, c) + noise
    bound = exact_bound(model, jnp.asarray(CELLS))
    assert (probabilities * bound).sum() > -(probabilities * np.log(probabilities)).sum() + 0.05


def test_loss_is_the_masked_sum_over_t():
    logits = jnp.zeros((2, 5, 7))
    masked = jnp.array([[True, True, False, False, False], [False] * 5])
    loss = masked_loss(logits, jnp.zeros((2, 5), int), masked, jnp.array([0.5, 0.1]))
    np.testing.assert_allclose(loss, [2 * np.log(7) / 0.5, 0.0], rtol=1e-6)
