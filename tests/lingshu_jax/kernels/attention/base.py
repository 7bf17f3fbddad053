"""What every attention implementation must hold: inherited by the tests of each."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from lingshu_jax.kernels.attention import Implementation, attention
from lingshu_jax.kernels.attention.rope import ROPE_BASE

B, N, H = 3, 37, 2


def segments(kind: str, cells: int, positions: int) -> np.ndarray:
    """int32 (cells, positions): the mask shapes that occur."""
    s = np.ones((cells, positions), np.int32)
    match kind:
        case "ragged":
            for cell in range(cells):
                s[cell, positions - 1 - cell * 5 :] = 0
        case "holes":
            s[:, 1::3] = 0
            s[0, :4] = 0
        case "packed":
            s[:, positions // 3 :] = 2
            s[:, -5:] = 0
            s[-1] = 7
        case "empty":
            s[0] = 0
        case "alone":
            s[:] = np.arange(1, positions + 1)
    return s


KINDS = ("whole", "ragged", "holes", "packed", "empty", "alone")


def by_definition(q, k, v, segment_ids, rope, d_out):
    """Outputs and gradients in float64 from the formula, without any of the package's code."""
    x = [np.asarray(array, np.float64) for array in (q, k, v, d_out)]
    present = (segment_ids != 0)[:, :, None, None]
    q, k, v, d_out = (np.where(present, array, 0.0) for array in x)
    size = q.shape[-1]
    turn = np.ones((*np.shape(rope), size // 2), complex) if rope is None else None
    if rope is not None:
        places = np.broadcast_to(rope, segment_ids.shape)
        turn = np.exp(1j * np.maximum(places, 0)[..., None] * ROPE_BASE ** (-np.arange(size // 2) / (size // 2)))
        q, k = _turned(q, turn), _turned(k, turn)
    allowed = (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids != 0)[:, None, :]
    mass = np.einsum("bqhk,bshk->bhqs", q, k) / np.sqrt(size)
    mass = np.where(allowed[:, None], np.exp(mass - mass.max(-1, keepdims=True)), 0.0)
    total = mass.sum(-1, keepdims=True)
    weights = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    out = np.einsum("bhqs,bshk->bqhk", weights, v)
    d_v = np.einsum("bhqs,bqhk->bshk", weights, d_out)
    d_weights = np.einsum("bqhk,bshk->bhqs", d_out, v)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True)) / np.sqrt(size)
    d_q, d_k = np.einsum("bhqs,bshk->bqhk", d_scores, k), np.einsum("bhqs,bqhk->bshk", d_scores, q)
    if rope is not None:
        d_q, d_k = _turned(d_q, turn.conj()), _turned(d_k, turn.conj())
    return out, d_q, d_k, d_v


def _turned(x, turn):
    first, second = np.split(x, 2, axis=-1)
    turned = (first + 1j * second) * turn[:, :, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def normal(shape, dtype, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    return [jax.random.normal(key, shape).astype(dtype) for key in keys]


def largest_error(found, expected) -> float:
    """Relative to the largest value of the array, or to 0.1 where all are smaller: arrays here are of the order 1."""
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max()
    return float(difference / max(np.abs(np.asarray(expected)).max(), 0.1))


class AttentionTests:
    """Subclass it as `Test...`, with the implementation, and what it rounds to."""

    implementation: Implementation
    tolerance: ClassVar = {jnp.float32: 5e-6, jnp.bfloat16: 2e-2}
    """Largest relative error, by type. The first type is the one for tests that need only one."""
    K: ClassVar = 8

    @property
    def dtype(self):
        return next(iter(self.tolerance))

    def run(self, q, k, v, segment_ids, d_out, rope=None):
        """Output and the three gradients."""

        def forward(q, k, v):
            return attention(q, k, v, segment_ids, rope=rope, implementation=self.implementation)

        out, pull = jax.vjp(forward, q, k, v)
        return out, *pull(d_out.astype(out.dtype))

    def check(self, arrays, segment_ids, rope, dtype):
        q, k, v, d_out = arrays
        found = self.run(q, k, v, jnp.asarray(segment_ids), d_out, None if rope is None else jnp.asarray(rope))
        expected = by_definition(q, k, v, segment_ids, rope, d_out)
        for name, x, y in zip(("out", "dq", "dk", "dv"), found, expected, strict=True):
            assert x.dtype == dtype, name
            assert largest_error(x, y) <= self.tolerance[dtype], name

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
    @pytest.mark.parametrize("kind", KINDS)
    def test_values_and_gradients_are_those_of_the_definition(self, kind, dtype):
        if dtype not in self.tolerance:
            pytest.skip(f"{type(self.implementation).__name__} does not compute in {dtype.__name__}")
        self.check(normal((B, N, H, self.K), dtype), segments(kind, B, N), np.arange(N) - 2, dtype)

    @pytest.mark.parametrize("positions", [1, 2, 127, 128, 130, 257])
    def test_odd_sizes(self, positions):
        self.check(normal((2, positions, 1, self.K), self.dtype), segments("whole", 2, positions), None, self.dtype)

    def test_head_size_64(self):
        self.check(normal((1, 70, 2, 64), self.dtype), segments("ragged", 1, 70), np.arange(70), self.dtype)

    def test_positions_by_cell(self):
        rope = np.stack([np.arange(N), np.arange(N)[::-1], np.full(N, -1)])
        self.check(normal((B, N, H, self.K), self.dtype), segments("packed", B, N), rope, self.dtype)

    @pytest.mark.parametrize("kind", ["ragged", "holes", "packed", "empty"])
    def test_nothing_of_segment_0_reaches_outputs_or_gradients(self, kind):
        segment_ids = segments(kind, B, N)
        hidden = jnp.asarray(segment_ids == 0)[:, :, None, None]
        arrays = normal((B, N, H, self.K), self.dtype)
        clean = self.run(*arrays[:3], jnp.asarray(segment_ids), arrays[3], jnp.arange(N))
        spoiled = [jnp.where(hidden, jnp.nan, x) for x in arrays]
        found = self.run(*spoiled[:3], jnp.asarray(segment_ids), spoiled[3], jnp.arange(N))
        for x, y in zip(found, clean, strict=True):
            np.testing.assert_array_equal(x, y)
            assert (jnp.where(hidden, x, 0.0) == 0.0).all()

    def test_large_scores_stay_finite(self):
        q, k, v, d_out = normal((B, N, H, self.K), self.dtype)
        for x in self.run(100 * q, 100 * k, v, jnp.asarray(segments("packed", B, N)), d_out):
            assert jnp.isfinite(x).all()

    def test_vmap(self):
        q, k, v, _ = normal((2, B, N, H, self.K), self.dtype)
        segment_ids = jnp.asarray(np.stack([segments("packed", B, N), segments("ragged", B, N)]))

        def one(q, k, v, s):
            return attention(q, k, v, s, rope=jnp.arange(N), implementation=self.implementation)

        together = jax.vmap(one)(q, k, v, segment_ids)
        for i in range(2):
            np.testing.assert_allclose(together[i], one(q[i], k[i], v[i], segment_ids[i]), atol=1e-6)

    def test_on_a_mesh_every_device_computes_its_cells_and_heads(self):
        mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
        q, k, v, d_out = normal((4, N, H, self.K), self.dtype)
        segment_ids = jnp.asarray(segments("ragged", 4, N))
        expected = self.run(q, k, v, segment_ids, d_out, jnp.arange(N))
        split = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor"))
        with jax.set_mesh(mesh):
            arrays = [jax.device_put(x, split) for x in (q, k, v, d_out)]
            cells = jax.device_put(segment_ids, NamedSharding(mesh, P(("data", "fsdp"))))
            run = jax.jit(lambda q, k, v, s, d: self.run(q, k, v, s, d, jnp.arange(N)))
            found = run(*arrays[:3], cells, arrays[3])
        for x, y in zip(found, expected, strict=True):
            assert x.sharding.is_equivalent_to(split, 4)
            np.testing.assert_allclose(x, y, atol=1e-5)
