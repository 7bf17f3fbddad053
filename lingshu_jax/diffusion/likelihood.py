"""The likelihood bound of whole cells: a low-noise estimate of the objective's expectation, with its standard error."""

# B cells, G genes

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lingshu_jax.diffusion.corruption import SMALLEST_RATE, cell_keys, corrupt
from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.tokens import OVERFLOW


def log_likelihood_bound(
    model: Any,
    tokens: Int[Array, "B G"],
    conditions: Any,
    key: Key[Array, ""] | Key[Array, "B"],
    *,
    draws: int = 16,
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Upper bound on -log p(cell | conditions) in nats (paper section 2), estimated with a control variate.

    `sum_i ref_i + mean over draws of (1/t) sum over masked i of (nll_i - ref_i)`, where ref_i is the -log p of
    gene i under the model's start at the depth of the whole cell: fixed per cell, hence unbiased, and exact when the
    model is a start that does not look at other genes. Mask rates are stratified over the draws. ABSENT genes count for
    nothing.

    Args:
        model: a `Denoiser`, any `MaskedDenoiser`, or a function (tokens, conditions) -> logits (B, G, V).
        tokens: unmasked cells.
        conditions: vocabulary rows by field, or {} for a model without conditions.
        key: one key, or one per cell; the same keys give the same masks whatever the conditions.
        draws: noised copies per cell, >= 2 for a standard error.

    Returns:
        The estimate per cell, and its standard error per cell (over draws; conservative, as they are stratified).
    """
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}.")
    parts = Compilable.of(model)
    keys = cell_keys(key, tokens.shape[0])
    reference = _reference(parts.structure, parts.arrays, tokens)
    estimates = jnp.stack(
        [_one_draw(parts.structure, parts.arrays, tokens, conditions, reference, keys, d, draws) for d in range(draws)]
    )
    spread = estimates.std(axis=0, ddof=1) if draws > 1 else jnp.full(tokens.shape[0], jnp.nan)
    return estimates.mean(axis=0), spread / draws**0.5


@functools.partial(jax.jit, static_argnums=0)
def _reference(structure: Any, arrays: Any, tokens: Int[Array, "B G"]) -> Float[Array, "B G"]:
    return structure.merge(arrays).reference_nll(tokens)


@functools.partial(jax.jit, static_argnums=(0, 7))
def _one_draw(
    structure: Any,
    arrays: Any,
    tokens: Int[Array, "B G"],
    conditions: Any,
    reference: Float[Array, "B G"],
    keys: Key[Array, "B"],
    draw: Int[Array, ""],
    draws: int,
) -> Float[Array, "B"]:
    """One estimate per cell."""
    excess, t = excess_of_draw(structure.merge(arrays), tokens, conditions, reference, keys, draw, draws)
    return jnp.where(tokens <= OVERFLOW, reference, 0.0).sum(axis=1) + excess.sum(axis=1) / t


def excess_of_draw(
    model: Any,
    tokens: Int[Array, "B G"],
    conditions: Any,
    reference: Float[Array, "B G"],
    keys: Key[Array, "B"],
    draw: Int[Array, ""],
    draws: int,
) -> tuple[Float[Array, "B G"], Float[Array, "B"]]:
    """How far each masked gene's -log p exceeds the reference in one draw, and the mask rate, of its own stratum."""
    jitter = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 0)))(keys)
    t = jnp.maximum((draw + jitter) / draws, SMALLEST_RATE)
    noised, masked = corrupt(tokens, t, jax.vmap(lambda k: jax.random.fold_in(k, draw + 1))(keys))
    return jnp.where(masked, model.token_nll(noised, conditions, tokens) - reference, 0.0), t
