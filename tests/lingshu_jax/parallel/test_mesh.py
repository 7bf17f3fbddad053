import jax
import numpy as np
import pytest

from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh, to_global


def test_data_takes_the_devices_that_are_left():
    assert dict(make_mesh(MeshConfig(fsdp=2, tensor=2)).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert make_mesh(MeshConfig()).shape["data"] == 8


def test_an_impossible_mesh_is_explained():
    with pytest.raises(ValueError, match=r"needs 15 devices, there are 8.*divisor of 8"):
        make_mesh(MeshConfig(data=5, fsdp=3))
    with pytest.raises(ValueError, match=r"mesh\.fsdp must be >= 1"):
        MeshConfig(fsdp=0)


def test_batches_lie_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rows = to_global({"x": np.arange(8)}, mesh)["x"]
    assert {shard.data.shape for shard in rows.addressable_shards} == {(2,)}
    np.testing.assert_array_equal(jax.device_get(rows), np.arange(8))
