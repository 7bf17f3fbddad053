"""Loss and gradients of a batch: at once or in parts, at full or at lower precision of the parameters."""

# B cells, N parts

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from lingshu_jax.parallel.mesh import BATCH_AXES
from lingshu_jax.training.optimizer import is_matrix

Loss = Callable[[Any, Any], Float[Array, ""]]
"""`loss(params, batch)`, a mean over the batch's cells."""


def loss_and_gradients(
    loss: Loss, params: Any, batch: Any, *, microbatches: int, dtype: str
) -> tuple[Float[Array, ""], Any]:
    """The loss of a batch and its gradients, in the type of the parameters.

    Args:
        loss: a mean over cells.
        params: the master copy.
        batch: tree of arrays (B, ...), global under `jax.jit`.
        microbatches: N parts of equal size, computed one after another. Noise is keyed by each cell's position in the
            batch, so the result is that of the undivided batch up to the order of sums.
        dtype: type that weight matrices are rounded to for the computation.
    """
    value_and_grad = jax.value_and_grad(lambda params, part: loss(rounded(params, dtype), part))
    if microbatches == 1:
        return value_and_grad(params, batch)

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, value_and_grad(params, part)), None

    nothing = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, nothing, _parts(batch, microbatches))
    return jax.tree.map(lambda value: value / microbatches, total)


def rounded(params: Any, dtype: str) -> Any:
    """The parameters with weight matrices of another type; vectors and norms stay as they are."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.astype(dtype) if is_matrix(path, leaf) else leaf, params
    )


def _parts(batch: Any, number: int) -> Any:
    """(B, ...) to (N, B / N, ...): every N-th cell, so that each device keeps its own cells."""

    def split(rows: Array) -> Array:
        parts = jnp.moveaxis(rows.reshape(rows.shape[0] // number, number, *rows.shape[1:]), 1, 0)
        if jax.sharding.get_abstract_mesh().empty:
            return parts
        return jax.lax.with_sharding_constraint(parts, P(None, BATCH_AXES))

    return jax.tree.map(split, batch)
