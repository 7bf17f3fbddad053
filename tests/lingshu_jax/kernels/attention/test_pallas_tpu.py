import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractDevice, AbstractMesh

from lingshu_jax.kernels.attention import PallasTpu, attention
from lingshu_jax.kernels.attention import pallas_tpu as kernel
from tests.lingshu_jax.kernels.attention.base import AttentionTests, largest_error, normal


class TestPallasTpu(AttentionTests):
    implementation = PallasTpu(interpret=True)


def test_the_tpu_interpreter_agrees(monkeypatch):
    """Once, and small: it simulates the chip's memory, far slower than the plain interpreter."""
    q, k, v, _ = normal((1, 130, 1, 8), jnp.float32)

    def loss(q):
        return (attention(q, k, v, jnp.ones((1, 130), int), implementation=PallasTpu(interpret=True)) ** 2).sum()

    plain = jax.grad(loss)(q)
    call = pl.pallas_call
    monkeypatch.setattr(
        kernel.pl, "pallas_call", lambda *a, interpret, **k: call(*a, interpret=pltpu.InterpretParams(), **k)
    )
    assert largest_error(jax.grad(loss)(q), plain) < 1e-6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_lowers_to_a_mosaic_call_for_tpu_and_is_what_auto_takes_there(dtype):
    shape = jax.ShapeDtypeStruct((2, 567, 2, 64), dtype)
    segment_ids = jax.ShapeDtypeStruct((2, 567), jnp.int32)

    def loss(q, k, v, s):
        return (attention(q, k, v, s, rope=jnp.arange(567)).astype(jnp.float32) ** 2).sum()

    def text(platform):
        device = AbstractDevice(device_kind=platform, num_cores=1, platform=platform)
        with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("data",), abstract_device=device)):
            traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(shape, shape, shape, segment_ids)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert text("tpu").count("tpu_custom_call") == 2  # forward and backward
    assert "567x567" not in text("tpu")
    assert "tpu_custom_call" not in text("cpu")


def test_rows_that_do_not_fit_on_a_chip_are_refused():
    x = jnp.zeros((1, kernel.LONGEST + 1, 1, 8))
    with pytest.raises(ValueError, match=r"PallasTpu cannot .* at most 2304.* Choose 'auto' or 'xla'"):
        attention(x, x, x, jnp.ones(x.shape[:2], int), implementation="pallas_tpu")
