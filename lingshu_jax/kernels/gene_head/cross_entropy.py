"""Decompress, head and cross-entropy in one pass over slots; the gradient is computed in the forward pass."""

# B cells, P patches, S genes per patch, D width, V output tokens


import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head.head import GeneHead, slot_logits, token_counts


def token_nll(head: GeneHead, targets: Int[Array, "B P S"]) -> Float[Array, "B P S"]:
    """-log p(target) of every gene in nats, one slot at a time. A target outside the vocabulary gives no useful number."""

    def one_slot(slot: tuple[dict[str, Array], Array]) -> Array:
        parts, slot_targets = slot
        return _nll(slot_logits(head.states, parts), slot_targets)

    nll = jax.lax.map(one_slot, (head.slots(), jnp.moveaxis(targets, 2, 0)))
    return jnp.moveaxis(nll, 0, 2)


def weighted_cross_entropy(
    head: GeneHead, targets: Int[Array, "B P S"], weights: Float[Array, "B P S"]
) -> Float[Array, ""]:
    """`sum(weights * -log p(targets))` over cells and genes, differentiable in states, matrix and tilt.

    Logits live for one slot at a time, and the backward pass recomputes none of them: gradients are formed where the
    logits are, and only scaled by the incoming cotangent later. Entries of weight 0 add nothing, whatever their target.
    """
    base = None if head.base is None else jax.lax.stop_gradient(head.base)
    return _cross_entropy(head.states, head.matrix, head.tilt, base, targets, weights)


@jax.custom_vjp
def _cross_entropy(states, matrix, tilt, base, targets, weights):
    head = GeneHead(states, matrix, base, tilt)

    def add_slot(total: Array, slot: tuple[dict[str, Array], Array, Array]) -> tuple[Array, None]:
        parts, slot_targets, slot_weights = slot
        nll = _nll(slot_logits(states, parts), slot_targets)
        return total + jnp.where(slot_weights > 0, nll * slot_weights, 0.0).sum(), None

    slots = (head.slots(), jnp.moveaxis(targets, 2, 0), jnp.moveaxis(weights, 2, 0))
    return jax.lax.scan(add_slot, jnp.zeros((), jnp.float32), slots)[0]


def _forward(states, matrix, tilt, base, targets, weights):
    head = GeneHead(states, matrix, base, tilt)
    counts = token_counts()

    def add_slot(carry: tuple[Array, Array], slot: tuple[dict[str, Array], Array, Array]):
        total, d_states = carry
        parts, slot_targets, slot_weights = slot
        logits = slot_logits(states, parts)
        log_total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        hit = slot_targets[..., None] == jnp.arange(logits.shape[-1])
        nll = log_total[..., 0] - jnp.where(hit, logits, 0.0).sum(-1)
        total = total + jnp.where(slot_weights > 0, nll * slot_weights, 0.0).sum()
        d_logits = (jnp.exp(logits - log_total) - hit) * slot_weights[..., None]
        d_tilt = d_logits @ counts if "tilt" in parts else None
        d_logits = d_logits[..., : parts["matrix"].shape[-1]].astype(states.dtype)
        d_states = d_states + jnp.einsum("bpk,dk->bpd", d_logits, parts["matrix"], preferred_element_type=jnp.float32)
        d_matrix = jnp.einsum("bpd,bpk->dk", states, d_logits, preferred_element_type=jnp.float32)
        return (total, d_states), (d_matrix, d_tilt)

    slots = (head.slots(), jnp.moveaxis(targets, 2, 0), jnp.moveaxis(weights, 2, 0))
    zero = (jnp.zeros((), jnp.float32), jnp.zeros(states.shape, jnp.float32))
    (total, d_states), (d_matrix, d_tilt) = jax.lax.scan(add_slot, zero, slots)
    if d_tilt is not None:
        d_tilt = jnp.moveaxis(d_tilt, 0, 2)
    return total, (d_states.astype(states.dtype), d_matrix.astype(matrix.dtype), d_tilt)


def _backward(gradients, cotangent):
    d_states, d_matrix, d_tilt = jax.tree.map(lambda g: (g * cotangent).astype(g.dtype), gradients)
    return d_states, d_matrix, d_tilt, None, None, None


_cross_entropy.defvjp(_forward, _backward)


def _nll(logits: Float[Array, "B P V"], targets: Int[Array, "B P"]) -> Float[Array, "B P"]:
    hit = jnp.take_along_axis(logits, jnp.minimum(targets, logits.shape[-1] - 1)[..., None], axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - hit[..., 0]
