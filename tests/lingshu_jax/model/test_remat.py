import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lingshu_jax.diffusion.objective import training_loss
from lingshu_jax.model import KeepAll, KeepInputs, KeepProducts
from tests.lingshu_jax.tiny import cells, conditions, denoiser


@functools.cache
def compiled(remat):
    """Loss and gradients of six deep blocks, and the temporary memory that they take."""
    model = denoiser(trained=True, remat=remat, blocks=6, width=32, ffn_width=256)
    graph, params, fixed = nnx.split(model, nnx.Param, ...)
    fixed = jax.tree.map(jnp.asarray, fixed)
    tokens, labels = model.patches(cells(32)), conditions(32)

    def loss(params):
        merged = nnx.merge(graph, params, fixed)
        return training_loss(merged, tokens, labels, jnp.arange(32), jax.random.key(0))

    run = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
    return run(params), run.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("remat", [KeepProducts(), KeepInputs()], ids=str)
def test_what_is_kept_changes_no_loss_and_no_gradient(remat):
    (loss, gradients), _ = compiled(remat)
    (expected, expected_gradients), _ = compiled(KeepAll())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for found, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        assert np.abs(found - other).max() <= 1e-5 * np.abs(other).max()


def test_keeping_less_takes_less_memory():
    everything, products, inputs = (compiled(remat)[1] for remat in (KeepAll(), KeepProducts(), KeepInputs()))
    assert inputs < products < everything
