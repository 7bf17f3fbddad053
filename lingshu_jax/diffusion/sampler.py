"""The reverse process (paper section 6): from all masked, an exact number of genes per step, to whole cells."""

# B cells, G genes, R rows of one forward pass, C listed genes of a cell

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from lingshu_jax.diffusion.choosing import chooser
from lingshu_jax.diffusion.config import SamplerConfig
from lingshu_jax.diffusion.corruption import cell_keys
from lingshu_jax.diffusion.denoising import Compilable, rows_of
from lingshu_jax.diffusion.guidance import unperturbed
from lingshu_jax.diffusion.schedule import masked_after
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, mesh_of
from lingshu_jax.tokens import ABSENT, MASK

Progress = Callable[[int, int], None]
_DEPTH_STREAM = 2**31 - 2
"""Fold of a cell's key that its depth comes from; `choosing` has the others."""


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
        config: schedule, order, guidance, temperature, rows per device.
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
    done = 0
    with compiled_for(mesh):
        process = _Process(parts, parts.merge(), config, mesh, _prepare(parts.structure, parts.arrays))
        for chunk, first in process.chunks(start, fields, keys, rows):
            # The last chunk is padded with copies of its last cell: one compiled shape serves every request.
            padded = np.pad(chunk, (0, rows - len(chunk)), mode="edge")
            labels = {name: values[padded] for name, values in fields.items()}
            drawn[chunk] = process.draw(start[padded], labels, keys[padded], first)[: len(chunk)]
            done += len(chunk)
            progress(done, cells)
    return drawn


def _initial_tokens(
    model: Any, cells: int, fixed: np.ndarray | None, absent: np.ndarray | None, genes: int | None
) -> np.ndarray:
    given = next((array.shape[-1] for array in (fixed, absent) if array is not None), genes)
    genes = getattr(model, "genes", given)
    if genes is None:
        raise ValueError("the number of genes is not known: pass genes=G, or fixed tokens.")
    tokens = np.full(genes, MASK, np.int32)
    if fixed is not None:
        tokens = np.asarray(fixed, np.int32)
    if absent is not None:
        tokens = np.where(absent, np.int32(ABSENT), tokens)
    # A view without copies where all cells start alike.
    return np.broadcast_to(tokens, (cells, genes))


@dataclasses.dataclass(frozen=True)
class _Process:
    """One request's reverse process, chunk by chunk."""

    parts: Compilable
    denoiser: Any
    config: SamplerConfig
    mesh: Any
    shared: Any

    def chunks(
        self, start: np.ndarray, fields: dict[str, np.ndarray], keys: Any, rows: int
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Indices of the cells of each chunk, and the prediction of their first step where cells can share it.

        Cells with the same conditions and start tokens have the same first step: it is computed once for all of them.
        """
        if not self.denoiser.reverse.starts_alike:
            for first in range(0, len(start), rows):
                yield np.arange(first, min(first + rows, len(start))), None
            return
        representative, kind = _distinct(start, fields)
        for first in range(0, len(representative), rows):
            kinds = representative[np.minimum(np.arange(first, first + rows), len(representative) - 1)]
            labels = self._place({name: values[kinds] for name, values in fields.items()})
            state = self._begin(start[kinds], labels, keys[kinds])
            prediction, scale = self._predict(1, state, labels)
            mine = np.flatnonzero((kind >= first) & (kind < first + rows))
            mine = mine[np.argsort(kind[mine], kind="stable")]
            for chunk in range(0, len(mine), rows):
                cells = mine[chunk : chunk + rows]
                local = np.pad(kind[cells] - first, (0, rows - len(cells)), mode="edge")
                yield cells, (_take(prediction, self._place(local)), scale)

    def draw(self, start: np.ndarray, conditions: dict[str, Any], keys: Any, first: Any) -> np.ndarray:
        """One batch of cells through all reverse steps: tokens (R, G)."""
        structure, arrays, config = self.parts.structure, self.parts.arrays, self.config
        labels, keys = self._place(conditions), self._place(keys)
        state = self._begin(start, labels, keys)
        open_genes = (start == MASK).sum(axis=1)
        choose = chooser(config.order, self._place(start == MASK), keys)
        before = masked_after(config.schedule, 0, open_genes)
        for k in range(1, config.schedule.steps + 1):
            after = masked_after(config.schedule, k, open_genes)
            if (after == before).all():
                continue
            untouched = (before == open_genes).all() and k == 1
            prediction, scale = first if first is not None and untouched else self._predict(k, state, labels)
            numbers = {
                "guidance": np.float32(scale),
                "mixed": np.float32(config.guidance.mixed),
                "temperature": np.float32(config.temperature),
                "top_p": np.float32(config.top_p),
            }
            draw = functools.partial(_draw, structure, arrays, self.shared, prediction, numbers=numbers)
            genes, tokens = choose(draw, k, before, after)
            state = _write(structure, arrays, self.shared, state, genes, tokens)
            before = after
        return np.asarray(_end(structure, arrays, state))

    def _begin(self, start: np.ndarray, labels: Any, keys: Any) -> Any:
        return _begin(self.parts.structure, self.parts.arrays, self.shared, self._place(start), labels, keys)

    def _predict(self, step: int, state: Any, labels: Any) -> tuple[Any, float]:
        """The prediction of a step, and the guidance scale that it is drawn with."""
        scale = self.config.guidance.scale_at(step, self.config.schedule.steps)
        away_from = unperturbed(self.config.guidance, labels, self.denoiser.conditions) if scale else None
        return _predict(self.parts.structure, self.parts.arrays, self.shared, state, labels, away_from), scale

    def _place(self, tree: Any) -> Any:
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        return jax.device_put(tree, batch_sharding(self.mesh))


def _distinct(start: np.ndarray, fields: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A cell of each distinct (start tokens, conditions), and each cell's number among them."""
    # Numbers by their bits: one that is left out (NaN) is like itself.
    columns = [np.ascontiguousarray(values).view(np.int32).reshape(len(start), -1) for values in fields.values()]
    if start.strides[0]:  # else all cells start alike
        digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in start]
        columns.append(np.frombuffer(b"".join(digests), np.int32).reshape(len(start), -1))
    if not columns:
        return np.zeros(1, np.int64), np.zeros(len(start), np.int64)
    _, representative, kind = np.unique(np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True)
    return representative, kind.reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def _prepare(structure: Any, arrays: Any) -> Any:
    return structure.merge(arrays).reverse.prepare()


@functools.partial(jax.jit, static_argnums=0)
def _begin(structure: Any, arrays: Any, shared: Any, tokens: Any, conditions: Any, keys: Any) -> Any:
    keys = jax.vmap(lambda k: jax.random.fold_in(k, _DEPTH_STREAM))(keys)
    return structure.merge(arrays).reverse.begin(shared, tokens, conditions, keys)


@functools.partial(jax.jit, static_argnums=0)
def _predict(structure: Any, arrays: Any, shared: Any, state: Any, conditions: Any, away_from: Any) -> Any:
    return structure.merge(arrays).reverse.predict(shared, state, conditions, away_from)


@functools.partial(jax.jit, static_argnums=0)
def _draw(
    structure: Any, arrays: Any, shared: Any, prediction: Any, genes: Any, uniforms: Any, *, numbers: dict[str, Any]
) -> Any:
    return structure.merge(arrays).reverse.draw(shared, prediction, genes, uniforms, **numbers)


@functools.partial(jax.jit, static_argnums=0)
def _write(structure: Any, arrays: Any, shared: Any, state: Any, genes: Any, tokens: Any) -> Any:
    return structure.merge(arrays).reverse.write(shared, state, genes, tokens)


@functools.partial(jax.jit, static_argnums=0)
def _end(structure: Any, arrays: Any, state: Any) -> Any:
    return structure.merge(arrays).reverse.end(state)


@jax.jit
def _take(prediction: Any, rows: Any) -> Any:
    return jax.tree.map(lambda x: x[rows], prediction)
