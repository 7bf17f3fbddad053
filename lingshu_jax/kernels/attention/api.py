"""Which attention implementation runs: the one public function, its semantics and its dispatch."""

from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.attention.reference import xla_attention

Implementation = Literal["auto", "xla"]

_IMPLEMENTATIONS: Mapping[str, Callable[..., Array]] = {"auto": xla_attention, "xla": xla_attention}


def attention(
    q: Float[Array, "B N H K"],
    k: Float[Array, "B N H K"],
    v: Float[Array, "B N H K"],
    segment_ids: Int[Array, "B N"],
    *,
    rope: Int[Array, "N"] | Int[Array, "B N"] | None = None,
    implementation: Implementation = "auto",
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
        implementation: "auto" picks the fastest validated one for the platform; "xla" is the reference.

    Raises:
        ValueError: shapes do not fit, or the implementation does not exist.
    """
    if not (q.shape == k.shape == v.shape and q.ndim == 4):
        raise ValueError(f"q, k and v must share one shape (B, N, H, K); got {q.shape}, {k.shape}, {v.shape}.")
    if segment_ids.shape != q.shape[:2]:
        raise ValueError(f"segment_ids must have shape (B, N) = {q.shape[:2]}, got {segment_ids.shape}.")
    if implementation not in _IMPLEMENTATIONS:
        raise ValueError(f"no attention implementation {implementation!r}; there are: {', '.join(_IMPLEMENTATIONS)}.")
    return _IMPLEMENTATIONS[implementation](q, k, v, segment_ids, rope)
