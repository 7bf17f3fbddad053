"""The fused gene layers are the paper's formulation, gene by gene: losses and the gradient of every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from experiments.benchmarks.naive import naive_training_loss
from lingshu_jax.diffusion.objective import training_loss
from lingshu_jax.kernels.gene_head import cross_entropy
from lingshu_jax.model import NoBias
from lingshu_jax.tokens import ABSENT
from tests.lingshu_jax import tiny

CELLS = 4


def _both(slots, absent, **settings):
    model = tiny.denoiser(trained=True, genes_per_patch=slots, **settings)
    graph, params, fixed = nnx.split(model, nnx.Param, ...)
    tokens = tiny.cells(CELLS)
    if absent:
        tokens = tokens.at[:2, ::3].set(ABSENT)
    position = jnp.arange(CELLS)

    def gradients(loss):
        def of(params):
            model = nnx.merge(graph, params, fixed)
            return loss(model, model.patches(tokens), tiny.conditions(CELLS), position, jax.random.key(2))

        return jax.value_and_grad(of)(params)

    return gradients(training_loss), gradients(naive_training_loss)


def _distance(found, expected):
    x, y = (np.asarray(leaf, np.float64) for leaf in (found, expected))
    return np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-12)


@pytest.mark.parametrize(
    ("slots", "absent", "masked_alone"),
    [(1, False, False), (1, True, True), (8, False, True), (8, True, False), (32, False, False), (32, True, True)],
)
def test_losses_and_gradients_in_fp32(slots, absent, masked_alone, monkeypatch):
    assert tiny.GENES % 8 and tiny.GENES % 32
    if masked_alone:
        monkeypatch.setattr(cross_entropy, "FEWEST_CELLS", 1)
    (value, gradients), (expected, naive_gradients) = _both(slots, absent)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        other = dict(jax.tree.leaves_with_path(naive_gradients))[path]
        assert _distance(leaf, other) <= 1e-5, jax.tree_util.keystr(path)


@pytest.mark.parametrize("slots", [1, 8, 32])
def test_losses_and_gradients_in_bf16(slots):
    """Against the naive formulation in fp32; the blocks in between round too."""
    _, (exact, exact_gradients) = _both(slots, False, start=NoBias())
    (value, gradients), _ = _both(slots, False, start=NoBias(), dtype="bfloat16")
    np.testing.assert_allclose(value, exact, rtol=1e-2)
    assert _distance(ravel_pytree(gradients)[0], ravel_pytree(exact_gradients)[0]) <= 1e-2
