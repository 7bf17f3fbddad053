"""What per-gene logits are made of, kept factored: patch state times slot matrix, a fixed base, a log-rate tilt."""

# B cells, P patches, S genes per patch, D width, V output tokens, K <= V of them corrected

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lingshu_jax.tokens import VOCAB_SIZE, token_bins


@functools.partial(jax.tree_util.register_dataclass, data_fields=("states", "matrix", "base", "tilt"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class GeneHead:
    """`logits[b, p, s] = states[b, p] @ matrix[s] + base[s, p] + tilt[b, p, s] * count(v)`."""

    states: Float[Array, "B P D"]
    matrix: Float[Array, "S D K"]
    """M[s] = W_up[s] @ W_head; tokens from K on are left to base and tilt."""
    base: Float[Array, "S P V"] | None
    """Where the logits start: fixed, it receives no gradient."""
    tilt: Float[Array, "B P S"] | None
    """Shift of the log-rate, one scalar per cell and gene."""


def token_counts() -> np.ndarray:
    """The representative count of every output token (bin midpoints), fp32 (V,): what a log-rate tilt multiplies."""
    low, width = token_bins()
    return (low + width // 2).astype(np.float32)


def slot_logits(states: Float[Array, "B P D"], slot: dict[str, Any]) -> Float[Array, "B P V"]:
    """The fp32 logits of one slot from its `matrix` (D, K) and, where there are, `base` (P, V) and `tilt` (B, P)."""
    logits = jnp.einsum("bpd,dk->bpk", states, slot["matrix"], preferred_element_type=jnp.float32)
    logits = jnp.pad(logits, ((0, 0), (0, 0), (0, VOCAB_SIZE - logits.shape[-1])))
    if "base" in slot:
        logits = logits + slot["base"]
    if "tilt" in slot:
        logits = logits + slot["tilt"][..., None] * token_counts()
    return logits


def all_logits(head: GeneHead) -> Float[Array, "B P S V"]:
    """Every logit at once: for small panels and tests only."""
    slots = {"matrix": head.matrix}
    if head.base is not None:
        slots["base"] = head.base
    if head.tilt is not None:
        slots["tilt"] = jnp.moveaxis(head.tilt, 2, 0)
    return jnp.moveaxis(jax.lax.map(functools.partial(slot_logits, head.states), slots), 0, 2)
