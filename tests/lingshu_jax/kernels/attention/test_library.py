import importlib.util
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest

from lingshu_jax.kernels.attention import Cudnn, Tokamax, attention
from tests.lingshu_jax.kernels.attention.base import AttentionTests


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs an NVIDIA GPU")
class TestCudnn(AttentionTests):
    implementation = Cudnn()
    tolerance: ClassVar = {jnp.bfloat16: 2e-2}
    K = 64


@pytest.mark.skipif(importlib.util.find_spec("tokamax") is None, reason="tokamax is not installed")
class TestTokamax(AttentionTests):
    implementation = Tokamax()


def test_a_library_that_is_not_there_is_named():
    if importlib.util.find_spec("tokamax"):
        pytest.skip("tokamax is installed")
    x = jnp.zeros((1, 4, 1, 8))
    with pytest.raises(ValueError, match=r"tokamax is not installed \(pip install tokamax\)"):
        attention(x, x, x, jnp.ones((1, 4), int), implementation="tokamax")
