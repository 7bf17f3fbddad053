"""How parameters are made: initial values with the logical axes that decide their sharding."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

Axes = tuple[str | None, ...]


class Fixed(nnx.Variable):
    """An array that belongs to the model and is saved with it, but is never trained."""


def scaled_normal(rngs: nnx.Rngs, shape: tuple[int, ...], axes: Axes, scale: float) -> nnx.Param:
    """A parameter drawn from N(0, scale^2), fp32."""
    return _parameter(lambda: scale * jax.random.normal(rngs.params(), shape, jnp.float32), axes)


def ones(shape: tuple[int, ...], axes: Axes) -> nnx.Param:
    """A parameter that starts at 1, fp32."""
    return _parameter(lambda: jnp.ones(shape, jnp.float32), axes)


def zeros(shape: tuple[int, ...], axes: Axes) -> nnx.Param:
    """A parameter that starts at 0, fp32."""
    return _parameter(lambda: jnp.zeros(shape, jnp.float32), axes)


def _parameter(make: Callable[[], jax.Array], axes: Axes) -> nnx.Param:
    return nnx.Param(make(), axes=axes)
