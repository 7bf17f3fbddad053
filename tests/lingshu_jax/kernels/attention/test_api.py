import typing

import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.kernels.attention import IMPLEMENTATIONS, MosaicGpu, PallasTpu, Xla, attention
from lingshu_jax.model import DenoiserConfig
from tests.lingshu_jax.kernels.attention.base import B, H, N, normal

K = 8
Q = jnp.zeros((B, N, H, K))
ONES = jnp.ones((B, N), jnp.int32)


def test_auto_is_xla_where_nothing_else_was_validated():
    """And the Pallas kernel on TPU: test_pallas_tpu.py."""
    q, k, v, _ = normal((B, N, H, K), jnp.float32)
    automatic = attention(q, k, v, ONES, rope=jnp.arange(N))
    np.testing.assert_array_equal(automatic, attention(q, k, v, ONES, rope=jnp.arange(N), implementation="xla"))


def test_rotation_makes_scores_depend_on_distance_and_leaves_negative_positions():
    q, k, v, _ = normal((B, N, H, K), jnp.float32)
    near = attention(q, k, v, ONES, rope=jnp.arange(N))
    np.testing.assert_allclose(attention(q, k, v, ONES, rope=jnp.arange(N) + 5), near, atol=1e-5)
    assert not np.allclose(attention(q, k, v, ONES), near, atol=1e-3)
    unmoved = attention(q, k, v, ONES, rope=jnp.full(N, -1))
    np.testing.assert_array_equal(unmoved, attention(q, k, v, ONES, rope=jnp.zeros(N, int)))


@pytest.mark.parametrize(
    ("arguments", "settings", "match"),
    [
        ((Q, Q[:, :5], Q, ONES), {}, "share one shape"),
        ((Q[..., :3], Q[..., :3], Q[..., :3], ONES), {}, "must be even, got 3"),
        ((Q, Q, Q, ONES[:, 1:]), {}, "segment_ids must have shape"),
        ((Q, Q, Q, ONES), {"rope": jnp.arange(N - 1)}, "rope must have shape"),
        ((Q, Q.astype(jnp.bfloat16), Q, ONES), {}, "share one floating type; got float32, bfloat16"),
        ((Q.astype(int), Q.astype(int), Q.astype(int), ONES), {}, "share one floating type"),
        ((Q, Q, Q, ONES.astype(float)), {}, "segment_ids must be integers"),
        ((Q, Q, Q, ONES), {"rope": jnp.arange(N) / 2}, "rope must be integers"),
        ((Q, Q, Q, ONES), {"implementation": None}, "no attention implementation None"),
        ((Q, Q, Q, ONES), {"implementation": Xla}, "no attention implementation <class"),
        ((Q, Q, Q, ONES), {"implementation": "magic"}, "no attention implementation 'magic'; there are: auto, xla"),
    ],
)
def test_misfitting_arguments_are_refused(arguments, settings, match):
    with pytest.raises(ValueError, match=match):
        attention(*arguments, **settings)


def test_an_implementation_with_settings_of_its_own_can_be_given():
    np.testing.assert_allclose(attention(Q, Q, Q, ONES, implementation=Xla(queries_at_once=5)), Q)


def test_every_implementation_can_be_asked_for_in_a_models_settings():
    names = typing.get_args(typing.get_type_hints(DenoiserConfig)["attention"])
    assert list(names) == list(IMPLEMENTATIONS)


@pytest.mark.parametrize("name", ["pallas_tpu", "cudnn"])
def test_an_implementation_for_another_platform_is_refused(name):
    with pytest.raises(ValueError, match=r"it is for .PU, and the program is compiled for CPU\. Choose"):
        attention(Q, Q, Q, ONES, implementation=name)


@pytest.mark.parametrize("implementation", [Xla(), PallasTpu(interpret=True), MosaicGpu(interpret=True)], ids=str)
@pytest.mark.parametrize("shape", [(0, 4, 1, 64), (2, 0, 1, 64), (2, 4, 0, 64)], ids=str)
def test_of_nothing_comes_nothing(implementation, shape):
    x = jnp.zeros(shape, jnp.bfloat16)
    found = attention(x, x, x, jnp.ones(shape[:2], int), implementation=implementation)
    assert found.shape == shape and found.dtype == jnp.bfloat16


def test_a_chunk_of_no_queries_is_refused():
    with pytest.raises(ValueError, match="queries_at_once must be >= 1"):
        Xla(queries_at_once=0)
