"""Which genes a reverse step reveals and their tokens, for each order (paper section 6 leaves it open)."""

# R cells, G genes, C listed genes of a cell

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from lingshu_jax.diffusion.order import Ancestral, Confidence

Draw = Callable[[Int[Array, "R C"], Float[Array, "R C"]], tuple[Int[Array, "R C"], Float[Array, "R C"]]]
"""Listed genes (G = none) and uniforms to tokens and their log-probabilities."""
Choose = Callable[[Draw, int, np.ndarray, np.ndarray], tuple[Int[Array, "R C"], Int[Array, "R C"]]]
"""(draw, step, genes masked before it, and after it) to the genes that it reveals, and their tokens."""

_ORDER_STREAM, _UNIFORM_STREAM, _NOISE_STREAM = 0, 2**31 - 3, 2**31 - 4
"""Folds of a cell's key: its random order, its uniforms, and the noise of a confidence order."""


@functools.singledispatch
def chooser(order: Any, is_open: Bool[Array, "R G"], keys: Key[Array, "R"]) -> Choose:
    """The choice of an order for cells of which `is_open` genes are to be drawn."""
    raise TypeError(f"no way to choose genes for {type(order).__name__}.")


@chooser.register
def _(order: Ancestral, is_open: Bool[Array, "R G"], keys: Key[Array, "R"]) -> Choose:
    genes_in_order, uniforms = _random_order(is_open, keys), _uniforms(keys, np.int32(0), is_open.shape[1])
    total = np.asarray(is_open).sum(axis=1)

    def choose(draw: Draw, step: int, before: np.ndarray, after: np.ndarray) -> tuple[Array, Array]:
        room = _room((before - after).max(), is_open.shape[1])
        first, last = (jnp.asarray(total - masked, jnp.int32) for masked in (before, after))
        genes, listed = _turn(genes_in_order, uniforms, first, last, room)
        return genes, draw(genes, listed)[0]

    return choose


@chooser.register
def _(order: Confidence, is_open: Bool[Array, "R G"], keys: Key[Array, "R"]) -> Choose:
    still_open = is_open
    total = np.asarray(is_open).sum(axis=1).max()

    def choose(draw: Draw, step: int, before: np.ndarray, after: np.ndarray) -> tuple[Array, Array]:
        nonlocal still_open
        genes_count = is_open.shape[1]
        genes = _open_genes(still_open, _room(before.max(), genes_count))
        uniforms = _listed(_uniforms(keys, np.int32(step), genes_count), genes)
        tokens, log_p = draw(genes, uniforms)
        noise = _listed(_gumbel(keys, np.int32(step), genes_count), genes)
        strength = np.float32(order.temperature * after.max() / max(1, total))
        kept = _keep(genes, log_p + strength * noise, jnp.asarray(before - after, jnp.int32), genes_count)
        still_open = _close(still_open, kept)
        return kept, tokens

    return choose


def _room(most: int, genes: int) -> int:
    """Length of a list of so many genes: powers of two, so that a few compiled shapes serve all steps."""
    return min(genes, 1 << max(0, int(most) - 1).bit_length())


@jax.jit
def _random_order(is_open: Bool[Array, "R G"], keys: Key[Array, "R"]) -> Int[Array, "R G"]:
    """The open genes of each cell in random order; the others come after them."""
    draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _ORDER_STREAM), is_open.shape[1:]))(keys)
    return jnp.argsort(jnp.where(is_open, draws, 2.0), axis=1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=2)
def _uniforms(keys: Key[Array, "R"], step: Int[Array, ""], genes: int) -> Float[Array, "R G"]:
    """One number per gene, in panel order."""
    streams = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(k, _UNIFORM_STREAM), step))(keys)
    return jax.vmap(lambda k: jax.random.uniform(k, (genes,)))(streams)


@functools.partial(jax.jit, static_argnums=2)
def _gumbel(keys: Key[Array, "R"], step: Int[Array, ""], genes: int) -> Float[Array, "R G"]:
    streams = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(k, _NOISE_STREAM), step))(keys)
    return jax.vmap(lambda k: jax.random.gumbel(k, (genes,)))(streams)


@functools.partial(jax.jit, static_argnums=4)
def _turn(
    order: Int[Array, "R G"], uniforms: Float[Array, "R G"], first: Int[Array, "R"], last: Int[Array, "R"], room: int
) -> tuple[Int[Array, "R C"], Float[Array, "R C"]]:
    """Genes first..last of each cell's order, G beyond, and their uniforms."""
    index = first[:, None] + jnp.arange(room)
    genes = jnp.take_along_axis(order, index, axis=1, mode="clip")
    genes = jnp.where(index < last[:, None], genes, order.shape[1])
    return genes, _listed(uniforms, genes)


@jax.jit
def _listed(values: Float[Array, "R G"], genes: Int[Array, "R C"]) -> Float[Array, "R C"]:
    return jnp.take_along_axis(values, genes, axis=1, mode="clip")


@functools.partial(jax.jit, static_argnums=1)
def _open_genes(is_open: Bool[Array, "R G"], room: int) -> Int[Array, "R C"]:
    """The open genes of each cell, G where there are fewer."""
    order = jnp.argsort(~is_open, axis=1, stable=True)[:, :room]
    return jnp.where(jnp.take_along_axis(is_open, order, axis=1), order, is_open.shape[1]).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=3)
def _keep(genes: Int[Array, "R C"], score: Float[Array, "R C"], count: Int[Array, "R"], none: int) -> Int[Array, "R C"]:
    """The genes of the `count` highest scores; `none` elsewhere."""
    falling = jnp.argsort(jnp.where(genes == none, jnp.inf, -score), axis=1)
    rank = jnp.argsort(falling, axis=1)
    return jnp.where((rank < count[:, None]) & (genes != none), genes, none)


@jax.jit
def _close(is_open: Bool[Array, "R G"], genes: Int[Array, "R C"]) -> Bool[Array, "R G"]:
    return is_open.at[jnp.arange(len(is_open))[:, None], genes].set(False, mode="drop")
