import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret.interpret_pallas_call import get_races
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from lingshu_jax.kernels.attention import MosaicGpu, attention
from lingshu_jax.kernels.attention import mosaic_gpu as kernel
from tests.lingshu_jax.kernels.attention.base import AttentionTests, normal, segments

HOPPER = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="cuda")


@pytest.mark.slow
class TestMosaicGpu(AttentionTests):
    """In the simulator of the chip's memory, barriers and matrix products."""

    implementation = MosaicGpu(interpret=True)
    tolerance: ClassVar = {jnp.bfloat16: 2e-2}
    K = 64

    def test_on_a_mesh_every_device_computes_its_cells_and_heads(self):
        """The simulator is of one chip: here the shapes are looked at that each device's kernel is compiled for."""
        text = lowered((4, 64, 2, 64), ((2, 2, 2), ("data", "fsdp", "tensor")))
        outputs = re.findall(r"custom_call @mosaic_gpu.* -> \(?(tensor<\w+>)", text)
        assert outputs == ["tensor<1x64x1x64xbf16>"] * 3


def test_a_small_case_agrees_with_the_definition():
    """The others are slow."""
    tests = TestMosaicGpu()
    tests.check(normal((2, 70, 1, 64), jnp.bfloat16), segments("packed", 2, 70), np.arange(70), jnp.bfloat16)


def test_nothing_is_read_before_it_is_there_or_written_while_it_is_read(monkeypatch):
    simulate = plgpu.InterpretGPUParams
    monkeypatch.setattr(kernel.plgpu, "InterpretGPUParams", lambda: simulate(detect_races=True))
    q, k, v, _ = normal((1, 130, 1, 64), jnp.bfloat16)
    segment_ids = jnp.asarray(segments("packed", 1, 130))

    def loss(q, k, v):
        return attention(q, k, v, segment_ids, implementation=MosaicGpu(interpret=True)).astype(jnp.float32).sum()

    jax.block_until_ready(jax.grad(loss, argnums=(0, 1, 2))(q, k, v))
    assert not get_races().races_found


def lowered(shape, mesh):
    """Output and gradients, lowered for a mesh of H100s that are not here."""
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    segment_ids = jax.ShapeDtypeStruct(shape[:2], jnp.int32)

    def loss(q, k, v, s):
        out = attention(q, k, v, s, rope=jnp.arange(shape[1]), implementation="mosaic_gpu")
        return (out.astype(jnp.float32) ** 2).sum()

    with jax.sharding.use_abstract_mesh(AbstractMesh(*mesh, (AxisType.Auto,) * len(mesh[0]), abstract_device=HOPPER)):
        traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(x, x, x, segment_ids)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("positions", [567, 2262])
def test_it_lowers_to_mosaic_calls_for_hopper(positions, size):
    text = lowered((2, positions, 2, size), ((1,), ("data",)))
    assert text.count("custom_call @mosaic_gpu") == 3  # forward, gradient of q, gradients of k and v
    assert f"{positions}x{positions}" not in text


@pytest.mark.parametrize(
    ("size", "dtype", "match"), [(32, jnp.bfloat16, "a head of 32"), (64, jnp.float32, "float32; it computes in half")]
)
def test_what_it_cannot_compute_is_refused(size, dtype, match):
    x = jnp.zeros((1, 4, 1, size), dtype)
    with pytest.raises(ValueError, match=rf"MosaicGpu cannot .*{match}.* Choose 'auto' or 'xla'"):
        attention(x, x, x, jnp.ones((1, 4), int), implementation="mosaic_gpu")
