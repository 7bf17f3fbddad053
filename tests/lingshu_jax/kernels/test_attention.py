import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.kernels import attention

B, N, H, K = 3, 10, 2, 4
SEGMENTS = {
    "all one": np.ones((B, N), int),
    "ragged tail": np.array([[1] * 10, [1] * 6 + [0] * 4, [1] + [0] * 9]),
    "holes": np.array([[1, 0] * 5, [0, 1] * 5, [1, 1, 0, 0, 1] * 2]),
    "packed": np.array([[1] * 4 + [2] * 6, [1] * 3 + [2] * 3 + [0] * 4, [7] * 10]),
    "empty row": np.array([[0] * 10, [1] * 10, [0] * 10]),
}


@pytest.fixture(params=SEGMENTS)
def segments(request):
    return jnp.asarray(SEGMENTS[request.param], jnp.int32)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(B, N, H, K)), jnp.float32) for _ in range(3))


def by_definition(q, k, v, segments):
    """Plain loops in float64."""
    q, k, v, out = np.asarray(q, float), np.asarray(k, float), np.asarray(v, float), np.zeros(q.shape)
    for b in range(B):
        for i in range(N):
            keys = [j for j in range(N) if segments[b, i] == segments[b, j] != 0]
            for h in range(H):
                if keys:
                    weight = np.exp([q[b, i, h] @ k[b, j, h] / np.sqrt(K) for j in keys])
                    out[b, i, h] = weight @ v[b, keys, h] / weight.sum()
    return out


def test_values_are_those_of_the_definition(segments):
    q, k, v = arrays()
    np.testing.assert_allclose(attention(q, k, v, segments), by_definition(q, k, v, np.asarray(segments)), atol=2e-6)


def test_nothing_of_segment_0_reaches_outputs_or_gradients(segments):
    q, k, v = arrays()
    hidden = (segments == 0)[:, :, None, None]
    spoiled = [jnp.where(hidden, jnp.nan, x) for x in (q, k, v)]

    def loss(q, k, v):
        return (attention(q, k, v, segments, rope=jnp.arange(N)) ** 2).sum()

    clean, clean_gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)
    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2))(*spoiled)
    assert value == clean
    for gradient, expected in zip(gradients, clean_gradients, strict=True):
        assert (jnp.where(hidden, gradient, 0.0) == 0.0).all()
        np.testing.assert_array_equal(gradient, expected)


def test_gradients_are_those_of_differences(segments):
    q, k, v = arrays(1)
    loss = lambda q: (attention(q, k, v, segments, rope=jnp.arange(N)) ** 2).sum()  # noqa: E731
    direction = arrays(2)[0]
    step = 1e-2
    difference = (loss(q + step * direction) - loss(q - step * direction)) / (2 * step)
    np.testing.assert_allclose((jax.grad(loss)(q) * direction).sum(), difference, rtol=2e-3, atol=1e-4)


def test_rotation_makes_scores_depend_on_distance_and_leaves_negative_positions():
    q, k, v = arrays()
    segments = jnp.ones((B, N), jnp.int32)
    near = attention(q, k, v, segments, rope=jnp.arange(N))
    np.testing.assert_allclose(attention(q, k, v, segments, rope=jnp.arange(N) + 5), near, atol=1e-5)
    assert not np.allclose(attention(q, k, v, segments), near, atol=1e-3)
    np.testing.assert_array_equal(
        attention(q, k, v, segments, rope=jnp.full(N, -1)), attention(q, k, v, segments, rope=jnp.zeros(N, int))
    )
    rows = jnp.broadcast_to(jnp.arange(N), (B, N))
    np.testing.assert_allclose(attention(q, k, v, segments, rope=rows), near, atol=1e-6)


def test_bfloat16_is_close_and_stays_bfloat16(segments):
    q, k, v = (x.astype(jnp.bfloat16) for x in arrays())
    out = attention(q, k, v, segments)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), by_definition(q, k, v, np.asarray(segments)), atol=2e-2)


def test_misfitting_arguments_are_refused():
    q, k, v = arrays()
    with pytest.raises(ValueError, match="share one shape"):
        attention(q, k[:, :5], v, jnp.ones((B, N), int))
    with pytest.raises(ValueError, match="segment_ids"):
        attention(q, k, v, jnp.ones((B, N - 1), int))
    with pytest.raises(ValueError, match="no attention implementation 'magic'"):
        attention(q, k, v, jnp.ones((B, N), int), implementation="magic")  # type: ignore[arg-type]
