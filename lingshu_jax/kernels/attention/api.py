"""The one public function of attention: its semantics, its checks, and the implementations by name."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.auto import Auto
from lingshu_jax.kernels.attention.implementation import Implementation
from lingshu_jax.kernels.attention.library import Cudnn, Tokamax
from lingshu_jax.kernels.attention.mosaic_gpu import MosaicGpu
from lingshu_jax.kernels.attention.pallas_tpu import PallasTpu
from lingshu_jax.kernels.attention.reference import Xla

Name = Literal["auto", "xla", "pallas_tpu", "mosaic_gpu", "cudnn", "tokamax"]

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    "auto": Auto(),
    "xla": Xla(),
    "pallas_tpu": PallasTpu(),
    "mosaic_gpu": MosaicGpu(),
    "cudnn": Cudnn(),
    "tokamax": Tokamax(),
}


def attention(
    q: Float[Array, "B N H K"],
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    *,
    rope: Int[Array, "N"] | Int[Array, "B N"] | None = None,
    implementation: Name | Implementation = "auto",
) -> Float[Array, "B N H K"]:
    """Bidirectional self-attention inside segments.

    Key j is allowed for query i iff `segment_ids[i] == segment_ids[j] != 0`. A query without an allowed key gives 0 and
    gets gradient 0; whatever stands in the q, k and v of segment 0 (NaN included) reaches no output and no gradient.
    Scores are scaled by K**-0.5; softmax and sums are in fp32.

    Args:
        q: queries. B cells, N positions, H heads of size K (even).
        k: keys.
        v: values.
        segment_ids: int32, the same for queries and keys; 0 = nothing there.
        rope: positions for the rotary embedding of q and k, int32; a negative one is not rotated. None rotates none.
        implementation: "auto" picks the fastest validated one for the platform; "xla" is the reference; "pallas_tpu",
            "mosaic_gpu" (Hopper), "cudnn" and "tokamax" (optional) are for their platforms; or an `Implementation` with
            settings of its own.

    Raises:
        ValueError: shapes or types do not fit, or the implementation does not exist or cannot compute them.
    """
    chosen = IMPLEMENTATIONS.get(implementation) if isinstance(implementation, str) else implementation
    if not isinstance(chosen, Implementation):
        raise ValueError(f"no attention implementation {implementation!r}; there are: {', '.join(IMPLEMENTATIONS)}.")
    _check(q, k, v, segment_ids, rope)
    reason = chosen.unsupported(q.shape, q.dtype)
    if reason:
        raise ValueError(f"{type(chosen).__name__} cannot compute attention here: {reason}. Choose 'auto' or 'xla'.")
    return chosen(q, k, v, segment_ids, rope) if q.size else q


def _check(q: Any, k: Any, v: Any, segment_ids: Any, rope: Any) -> None:
    if not (q.shape == k.shape == v.shape and q.ndim == 4):
        raise ValueError(f"q, k and v must share one shape (B, N, H, K); got {q.shape}, {k.shape}, {v.shape}.")
    if not (q.dtype == k.dtype == v.dtype and jnp.issubdtype(q.dtype, jnp.floating)):
        raise ValueError(f"q, k and v must share one floating type; got {q.dtype}, {k.dtype}, {v.dtype}.")
    if q.shape[3] % 2:
        raise ValueError(f"the head size must be even, got {q.shape[3]}: RoPE rotates halves.")
    if segment_ids.shape != q.shape[:2]:
        raise ValueError(f"segment_ids must have shape (B, N) = {q.shape[:2]}, got {segment_ids.shape}.")
    if rope is not None and rope.shape not in (q.shape[1:2], q.shape[:2]):
        raise ValueError(f"rope must have shape (N,) or (B, N) of {q.shape[:2]}, got {rope.shape}.")
    for name, array in (("segment_ids", segment_ids), ("rope", rope)):
        if array is not None and not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, got {array.dtype}.")
