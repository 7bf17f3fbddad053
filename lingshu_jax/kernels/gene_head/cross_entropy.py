"""Decompress, head and cross-entropy in one pass over tiles; the gradient is computed in the forward pass."""

# B cells, P patches, p patches of a tile, S genes per patch, D width, V output tokens, K <= V of them corrected

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head.head import GeneHead, slot_logits, token_counts
from lingshu_jax.kernels.gene_head.tiles import join_genes, join_states, map_genes, slots_of, split_tiles
from lingshu_jax.kernels.platform import target_platform
from lingshu_jax.kernels.shards import over_cells

FEWEST_CELLS = 16
"""Cells of a device from which on their masked genes are about as many in every step."""
MASKED_SHARE = 65
"""Room for masked rows, per cent of a tile's rows."""


def token_nll(head: GeneHead, targets: Int[Array, "B P S"]) -> Float[Array, "B P S"]:
    """-log p(target) of every gene in nats. A target outside the vocabulary gives no useful number."""
    return map_genes(_nll, head, targets=targets)


def weighted_cross_entropy(
    head: GeneHead, targets: Int[Array, "B P S"], weights: Float[Array, "B P S"]
) -> Float[Array, ""]:
    """`sum(weights * -log p(targets))` over cells and genes, differentiable in states, matrix and tilt.

    Logits live for one tile at a time, and the backward pass recomputes none of them: gradients are formed where the
    logits are, and only scaled by the incoming cotangent later. Entries of weight 0 add nothing, whatever their target.
    """
    base = None if head.base is None else jax.lax.stop_gradient(head.base)
    by_device = over_cells(_cells_cross_entropy, (head.states, head.tilt, targets, weights), (head.matrix, base))
    return by_device.sum()


def _cells_cross_entropy(cells: tuple[Array, ...], shared: tuple[Array, ...]) -> Float[Array, "1"]:
    states, tilt, targets, weights = cells
    return _cross_entropy(states, shared[0], tilt, shared[1], targets, weights)[None]


@jax.custom_vjp
def _cross_entropy(states, matrix, tilt, base, targets, weights):
    nll = token_nll(GeneHead(states, matrix, base, tilt), targets)
    return jnp.where(weights > 0, nll * weights, 0.0).sum()


def _forward(states, matrix, tilt, base, targets, weights):
    tiles = split_tiles(GeneHead(states, matrix, base, tilt), targets=targets, weights=weights)

    rows = tiles["weights"].shape[2] * tiles["weights"].shape[3]
    capacity = masked_rows(rows, cells=states.shape[0])

    def add_tile(carry: tuple[Array, Array], tile: dict[str, Array]):
        def all_slots(gradients: Callable[..., tuple[Array, ...]]) -> tuple[Array, ...]:
            def add_slot(carry: tuple[Array, Array], slot: dict[str, Array]):
                nll, d_states, d_matrix, d_tilt = gradients(tile, slot)
                return (carry[0] + nll, carry[1] + d_states), (d_matrix, d_tilt)

            zero = (jnp.zeros((), jnp.float32), jnp.zeros(tile["states"].shape, jnp.float32))
            (nll, d_states), (d_matrix, d_tilt) = jax.lax.scan(add_slot, zero, slots_of(tile, matrix))
            return nll, d_states, d_matrix, d_tilt

        if capacity is None:
            nll, d_states, d_matrix, d_tilt = all_slots(_slot_gradients)
        else:
            fits = (tile["weights"] > 0).sum((1, 2)).max() <= capacity
            few = functools.partial(_masked_slot_gradients, capacity=capacity)
            nll, d_states, d_matrix, d_tilt = jax.lax.cond(
                fits, lambda: all_slots(few), lambda: all_slots(_slot_gradients)
            )
        return (carry[0] + nll, carry[1] + d_matrix), (d_states, d_tilt)

    zero = (jnp.zeros((), jnp.float32), jnp.zeros(matrix.shape, jnp.float32))
    (nll, d_matrix), (d_states, d_tilt) = jax.lax.scan(add_tile, zero, tiles)
    d_states = join_states(d_states, states.shape[1]).astype(states.dtype)
    return nll, (d_states, d_matrix.astype(matrix.dtype), None if tilt is None else join_genes(d_tilt, tilt.shape[1]))


def _slot_gradients(tile: dict[str, Array], slot: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Weighted loss of one slot of one tile, and its gradients by states (B, p, D), matrix (D, K) and tilt (B, p)."""
    matrix, targets, weights, counts = slot["matrix"], slot["targets"], slot["weights"], jnp.asarray(token_counts())
    logits = slot_logits(tile["states"], slot)
    targets = jnp.minimum(targets, logits.shape[-1] - 1)
    top = logits.max(axis=-1, keepdims=True)
    mass = jnp.exp(logits - top)
    total = mass.sum(axis=-1)
    hit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    nll = jnp.where(weights > 0, (jnp.log(total) + top[..., 0] - hit) * weights, 0.0).sum()
    d_mass = mass * (weights / total)[..., None]
    d_tilt = d_mass @ counts - weights * counts[targets]
    at_target = targets[..., None] == jnp.arange(matrix.shape[-1])
    d_logits = d_mass[..., : matrix.shape[-1]] - jnp.where(at_target, weights[..., None], 0.0)
    d_logits = d_logits.astype(tile["states"].dtype)
    d_states = jnp.einsum("bpk,dk->bpd", d_logits, matrix, preferred_element_type=jnp.float32)
    d_matrix = jnp.einsum("bpd,bpk->dk", tile["states"], d_logits, preferred_element_type=jnp.float32)
    return nll, d_states, d_matrix, d_tilt


def masked_rows(rows: int, *, cells: int) -> int | None:
    """How many of a tile's rows the loss of one slot is computed for; None for all of them.

    Mask rates follow the golden ratio, so that among 16 cells or more about 0.58 of the genes are masked. A tile with
    a slot that has more is computed whole: nothing is ever left out.
    """
    if cells < FEWEST_CELLS or target_platform() == "tpu":
        return None
    return -(-rows * MASKED_SHARE // 100)


def _masked_slot_gradients(
    tile: dict[str, Array], slot: dict[str, Array], *, capacity: int
) -> tuple[Array, Array, Array, Array]:
    """What `_slot_gradients` gives, from the rows that have a weight alone; there are at most `capacity`."""
    cells, patches, width = tile["states"].shape
    rows = cells * patches
    index = jnp.nonzero(slot["weights"].reshape(rows) > 0, size=capacity, fill_value=rows)[0]

    def pick(values: Array) -> Array:
        return values.reshape(rows, *values.shape[2:]).at[index].get(mode="fill", fill_value=0)[None]

    picked = {name: pick(slot[name]) for name in ("targets", "weights", "tilt") if name in slot}
    if "base" in slot:
        picked["base"] = slot["base"][index % patches]
    nll, d_states, d_matrix, d_tilt = _slot_gradients(
        {"states": pick(tile["states"])}, {"matrix": slot["matrix"], **picked}
    )

    def spread(values: Array, *shape: int) -> Array:
        zero = jnp.zeros((rows, *shape), values.dtype)
        return zero.at[index].set(values[0], mode="drop", unique_indices=True, indices_are_sorted=True)

    return nll, spread(d_states, width).reshape(cells, patches, width), d_matrix, spread(d_tilt).reshape(cells, patches)


def _backward(gradients, cotangent):
    d_states, d_matrix, d_tilt = jax.tree.map(lambda g: (g * cotangent).astype(g.dtype), gradients)
    return d_states, d_matrix, d_tilt, None, None, None


_cross_entropy.defvjp(_forward, _backward)


def _nll(logits: Float[Array, "B p V"], *, targets: Int[Array, "B p"]) -> Float[Array, "B p"]:
    hit = jnp.take_along_axis(logits, jnp.minimum(targets, logits.shape[-1] - 1)[..., None], axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - hit[..., 0]
