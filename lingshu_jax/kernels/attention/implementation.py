"""What an attention implementation is: a small frozen type that computes `attention`, or says why it cannot."""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.platform import Platform, target_platform

# B cells, N positions, H heads, K head size


@dataclasses.dataclass(frozen=True)
class Implementation(abc.ABC):
    """One way to compute `attention`, with its semantics and its gradients."""

    def unsupported(self, shape: tuple[int, ...], dtype: jnp.dtype) -> str | None:
        """Why q of this shape (B, N, H, K) and type cannot be computed; None where it can."""
        return None

    @abc.abstractmethod
    def __call__(
        self,
        q: Float[Array, "B N H K"],
        k: Float[Array, "B N H K"],
        v: Float[Array, "B N H K"],
        segment_ids: Int[Array, "B N"],
        rope: Int[Array, "N"] | Int[Array, "B N"] | None,
    ) -> Float[Array, "B N H K"]:
        """See `attention`."""


def compiled_elsewhere(platform: Platform) -> str | None:
    """Why an implementation for a platform cannot be used, where the program is compiled for another one."""
    found = target_platform()
    return (
        None if found == platform else f"it is for {platform.upper()}, and the program is compiled for {found.upper()}"
    )
