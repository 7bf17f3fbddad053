import jax
import jax.numpy as jnp

from lingshu_jax.kernels.attention import Xla, attention
from tests.lingshu_jax.kernels.attention.base import AttentionTests


class TestXla(AttentionTests):
    implementation = Xla()


class TestXlaInChunks(AttentionTests):
    implementation = Xla(queries_at_once=10)


def test_no_array_of_all_scores_is_in_the_compiled_gradient_of_long_rows():
    positions, heads = 2262, 2
    shape = jax.ShapeDtypeStruct((1, positions, heads, 64), jnp.bfloat16)
    segment_ids = jax.ShapeDtypeStruct((1, positions), jnp.int32)

    def loss(q, k, v, s):
        return attention(q, k, v, s, rope=jnp.arange(positions)).astype(jnp.float32).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(shape, shape, shape, segment_ids).compile()
    assert f"{positions},{positions}]" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * heads * positions**2 * 4
