"""The reverse process (paper section 6): from all masked, an exact number of genes per step, in random order."""

# B cells, G genes, R rows of one forward pass

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from lingshu_jax.diffusion.corruption import cell_keys
from lingshu_jax.diffusion.denoising import Compilable, rows_of
from lingshu_jax.diffusion.guidance import control_conditions
from lingshu_jax.diffusion.schedule import SamplerConfig, masked_after
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of
from lingshu_jax.tokens import ABSENT, MASK

Progress = Callable[[int, int], None]
_ORDER_STREAM, _DEPTH_STREAM = 0, 2**31 - 2
"""Folds of a cell's key that its gene order and its depth come from; step k draws with fold k."""


def sample(
    model: Any,
    conditions: Mapping[str, Any] | int,
    config: SamplerConfig,
    key: Key[Array, ""] | Key[Array, "B"],
    *,
    fixed: np.ndarray | None = None,
    absent: np.ndarray | None = None,
    genes: int | None = None,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Draw whole cells.

    Every forward runs at exactly `config.cells_per_device` rows per device, and a cell's draws depend on its own key
    alone, so a cell is the same in any request it is part of.

    Args:
        model: a `Denoiser`, any `MaskedDenoiser`, or a function (tokens, conditions) -> logits (B, G, V).
        conditions: vocabulary rows (B,) or sets (B, M) by field; for a model without conditions, the number of cells.
        config: schedule, guidance, temperature, rows per device.
        key: one key (cell i uses it folded with i), or one key per cell.
        fixed: tokens (G,) or (B, G) that are kept as they are, MASK where a gene is to be drawn.
        absent: bool (G,) or (B, G), genes that are told to the model as unmeasured and come out as ABSENT.
        genes: G, needed only for a bare function without `fixed` or `absent`.
        progress: called with (cells done, cells asked for).

    Returns:
        uint16 tokens (B, G): no MASK; ABSENT exactly where `absent` says so.
    """
    fields = {} if isinstance(conditions, int) else {name: np.asarray(rows) for name, rows in conditions.items()}
    cells = conditions if isinstance(conditions, int) else rows_of(fields)
    if cells is None:
        raise ValueError("a model without conditions needs the number of cells: sample(model, 100, config, key).")
    parts = Compilable.of(model)
    start = _initial_tokens(model, cells, fixed, absent, genes)
    keys = cell_keys(key, cells)
    mesh = mesh_of(parts.arrays)
    rows = config.cells_per_device * (1 if mesh is None else mesh.size)
    drawn = np.empty(start.shape, np.uint16)
    for first in range(0, cells, rows):
        # The last chunk is padded with copies of its last cell: one compiled shape serves every request.
        chunk = np.minimum(np.arange(first, first + rows), cells - 1)
        labels = {name: rows[chunk] for name, rows in fields.items()}
        with compiled_for(mesh):
            tokens = _sample_chunk(parts, start[chunk], labels, config, keys[chunk], mesh)
        drawn[first : first + rows] = np.asarray(tokens)[: cells - first]
        progress(min(first + rows, cells), cells)
    return drawn


def _initial_tokens(
    model: Any, cells: int, fixed: np.ndarray | None, absent: np.ndarray | None, genes: int | None
) -> np.ndarray:
    given = next((array.shape[-1] for array in (fixed, absent) if array is not None), genes)
    genes = getattr(model, "genes", given)
    if genes is None:
        raise ValueError("the number of genes is not known: pass genes=G, or fixed tokens.")
    tokens = np.full((cells, genes), MASK, np.int32)
    if fixed is not None:
        tokens[:] = fixed
    if absent is not None:
        tokens[np.broadcast_to(absent, tokens.shape)] = ABSENT
    return tokens


def _sample_chunk(
    parts: Compilable, start: np.ndarray, conditions: dict[str, Any], config: SamplerConfig, keys: Any, mesh: Any
) -> Int[Array, "R G"]:
    """One compiled batch of cells through all reverse steps."""

    def place(array: Any) -> Any:
        return jnp.asarray(array) if mesh is None else jax.device_put(array, batch_sharding(mesh))

    open_genes = (start == MASK).sum(axis=1)
    tokens, keys = place(start), place(keys)
    conditions = jax.tree.map(place, conditions)
    ranks = _random_ranks(tokens == MASK, keys)
    # Drawn once: estimated anew from the genes drawn so far, small errors of the rates would add up over the steps.
    depth = _draw_depth(parts.structure, parts.arrays, tokens, conditions, keys)
    before = masked_after(config.schedule, 0, open_genes)
    for k in range(1, config.schedule.steps + 1):
        after = masked_after(config.schedule, k, open_genes)
        if (after == before).all():
            continue
        scale = config.guidance.scale_at(k)
        control = control_conditions(conditions, parts.structure.merge(parts.arrays).conditions) if scale else None
        tokens = reveal(
            parts.structure,
            parts.arrays,
            tokens,
            ranks,
            place(open_genes - after),
            conditions,
            control,
            depth,
            keys,
            np.int32(k),
            np.float32(scale),
            np.float32(config.temperature),
        )
        before = after
    return tokens


@jax.jit
def _random_ranks(is_open: Bool[Array, "R G"], keys: Key[Array, "R"]) -> Int[Array, "R G"]:
    """Each cell's random order: rank 0, 1, ... of its open genes; the others come last."""
    draws = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, _ORDER_STREAM), is_open.shape[1:]))(keys)
    order = jnp.argsort(jnp.where(is_open, draws, 2.0), axis=1)
    return jnp.argsort(order, axis=1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=0)
def _draw_depth(
    structure: Any, arrays: Any, tokens: Int[Array, "R G"], conditions: Any, keys: Key[Array, "R"]
) -> Float[Array, "R"] | None:
    keys = jax.vmap(lambda k: jax.random.fold_in(k, _DEPTH_STREAM))(keys)
    return structure.merge(arrays).draw_depth(tokens, conditions, keys)


@functools.partial(jax.jit, static_argnums=0)
def reveal(
    structure: Any,
    arrays: Any,
    tokens: Int[Array, "R G"],
    ranks: Int[Array, "R G"],
    revealed: Int[Array, "R"],
    conditions: Any,
    control: Any,
    depth: Float[Array, "R"] | None,
    keys: Key[Array, "R"],
    step: Int[Array, ""],
    guidance: Float[Array, ""],
    temperature: Float[Array, ""],
) -> Int[Array, "R G"]:
    """Draw the masked genes whose turn has come: those of rank below `revealed`."""
    uniforms = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, step), tokens.shape[1:]))(keys)
    drawn = structure.merge(arrays).draw(
        tokens, conditions, uniforms, depth=depth, temperature=temperature, control=control, guidance=guidance
    )
    turn = (tokens == MASK) & (ranks < revealed[:, None])
    return jnp.where(turn, drawn.astype(tokens.dtype), tokens)
