"""Where weights and activations lie while a block computes, and that it computes the same there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from lingshu_jax.model.blocks import Blocks
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, make_mesh, replicated
from lingshu_jax.parallel.rules import gathered, shardings, spread
from tests.lingshu_jax.tiny import CONFIG


def test_a_weight_is_gathered_for_the_step_and_its_gradient_goes_back_into_the_shards():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    axes = ("embed", "mlp")

    def both(weight):
        used, pull = jax.vjp(lambda w: gathered(w, axes), weight)
        return used, pull(jnp.ones_like(used))[0]

    with compiled_for(mesh):
        program = jax.jit(both).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=replicated(mesh))).compile()
    used, gradient = program.output_shardings
    assert used.spec == P(None, "tensor") and gradient.spec == P("fsdp", "tensor")


def test_activations_lie_by_cells_and_by_positions_where_those_divide():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    for positions, axis in ((6, "tensor"), (7, None)):
        with compiled_for(mesh):
            shape = jax.ShapeDtypeStruct((8, positions, 4), jnp.float32, sharding=replicated(mesh))
            program = jax.jit(lambda x: spread(x, ("cells", "positions", None))).lower(shape).compile()
        wanted = jax.sharding.NamedSharding(mesh, P(("data", "fsdp"), axis, None))
        assert program.output_shardings.is_equivalent_to(wanted, 3)


def test_without_a_mesh_nothing_moves():
    x = jnp.ones((4, 4))
    assert spread(x, ("cells", None)) is x and gathered(x, ("embed", None)) is x


@pytest.mark.parametrize("positions", [12, 13])
def test_blocks_compute_the_same_with_positions_in_shards(positions):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    graph, params = nnx.split(Blocks(CONFIG, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (8, positions, CONFIG.width))
    segments, rope = jnp.ones((8, positions), jnp.int32), jnp.arange(positions)

    def loss(params, x):
        return jnp.sum(nnx.merge(graph, params)(x, segments, rope) ** 2)

    expected = jax.value_and_grad(loss)(params, x)
    placed = jax.device_put(params, shardings(params, mesh)), jax.device_put(x, batch_sharding(mesh))
    with compiled_for(mesh):
        found = jax.jit(jax.value_and_grad(loss))(*placed)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
