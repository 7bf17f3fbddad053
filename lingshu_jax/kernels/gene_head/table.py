"""Token-table input: the exact product of token embedding and W_down, one table row per (slot, token)."""

# B cells, P patches, S genes per patch, C places, M measured-gene masks, D width
# T table rows (input tokens, and one for padding slots)

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lingshu_jax.kernels.gene_head.listed import over_slots
from lingshu_jax.kernels.platform import target_platform
from lingshu_jax.kernels.shards import over_cells
from lingshu_jax.tokens import ABSENT, INPUT_VOCAB_SIZE, MASK, OVERFLOW

PADDING = INPUT_VOCAB_SIZE
"""Token of a slot that holds no gene; its table row is zero."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KnownPlaces:
    """What is known of cells without looking at their tokens; it shortens `patch_inputs` and changes nothing."""

    expressed: Int[Array, "B C"]
    """Places `patch * S + slot` that alone can hold a count token above 0; one outside the layout is nothing."""
    absent: Bool[Array, "M P S"]
    """Places that hold ABSENT, under each distinct measured-gene mask."""
    mask: Int[Array, "B"]
    """Each cell's measured-gene mask."""


def token_table(
    embedding: Float[Array, "E D"],
    w_down: Float[Array, "S D D"],
    *,
    zero_origin: bool,
    scale: float,
    dtype: jnp.dtype,
) -> Float[Array, "S T D"]:
    """`T[s] = scale * E @ W_down[s]`, with a zero row for padding slots appended.

    With `zero_origin` the zero-count token's row is subtracted from every row, so that an unexpressed gene adds exactly
    nothing. ABSENT is always relative to it: it adds (E[ABSENT] - E[0]) @ W_down[s]. Built in fp32, cast once.
    """
    embedding = embedding.astype(jnp.float32)
    origin = embedding[:1]
    rows = jnp.arange(INPUT_VOCAB_SIZE)[:, None]
    shifted = embedding - origin if zero_origin else jnp.where(rows == ABSENT, embedding - origin, embedding)
    table = jnp.einsum("td,sde->ste", shifted, w_down.astype(jnp.float32)) * scale
    return jnp.pad(table, ((0, 0), (0, 1), (0, 0))).astype(dtype)


def patch_inputs(
    tokens: Int[Array, "B P S"], table: Float[Array, "S T D"], known: KnownPlaces | None = None
) -> Float[Array, "B P D"]:
    """Sum each patch's rows of the token table, fp32.

    Args:
        tokens: input tokens and PADDING.
        table: see `token_table`.
        known: where a caller has it. Most genes are not expressed, so the gather, and above all the scatter of its
            gradient, get shorter by their share; what ABSENT genes add is computed once per mask, not per cell.
    """
    if known is None:
        return over_cells(_without_places, tokens, table)
    return over_cells(_with_places, (tokens, known.expressed, known.mask), (table, known.absent))


def _without_places(tokens: Int[Array, "B P S"], table: Float[Array, "S T D"]) -> Float[Array, "B P D"]:
    return _one_hot(tokens, table) if target_platform() == "tpu" else _gather_all(tokens, table)


def _with_places(cells: tuple[Array, Array, Array], shared: tuple[Array, Array]) -> Float[Array, "B P D"]:
    (tokens, expressed, mask), (table, absent) = cells, shared
    if target_platform() == "tpu":
        return _without_places(tokens, table)  # ABSENT is one row of a product that is made anyway
    inputs = _gather_expressed(tokens, table, expressed) + _sum_of_common(tokens, table)
    return inputs + _sum_of_absent(absent, table)[mask]


def revealed_inputs(
    inputs: Float[Array, "B P D"], table: Float[Array, "S T D"], place: Int[Array, "B C"], tokens: Int[Array, "B C"]
) -> Float[Array, "B P D"]:
    """Patch inputs (fp32) after the listed masked genes got their tokens: `+ T[s, token] - T[s, MASK]` each.

    A place outside the layout stands for nothing.
    """
    return over_cells(_revealed_inputs, (inputs, place, tokens), table)


def _revealed_inputs(cells: tuple[Array, ...], table: Float[Array, "S T D"]) -> Float[Array, "B P D"]:
    inputs, place, tokens = cells

    def add_slot(total: Array, rows: Array, entry: Array, cell: Array, patch: Array) -> Array:
        token = tokens.reshape(-1).at[entry].get(mode="fill", fill_value=PADDING)
        change = rows[token].astype(jnp.float32) - rows[MASK].astype(jnp.float32)
        return total.at[cell, patch].add(change, mode="drop")

    return over_slots(place, (inputs.shape[1], table.shape[0]), table, inputs, add_slot)


def _one_hot(tokens: Int[Array, "B P S"], table: Float[Array, "S T D"]) -> Float[Array, "B P D"]:
    """Products with indicators, slot by slot: matrix units are fast where gathers and scatters are not."""

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def add_slot(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        rows, slot_tokens = slot
        indicators = jax.nn.one_hot(slot_tokens, rows.shape[0], dtype=rows.dtype)
        return total + jnp.einsum("bpt,td->bpd", indicators, rows, preferred_element_type=jnp.float32), None

    zero = jnp.zeros((*tokens.shape[:2], table.shape[-1]), jnp.float32)
    return jax.lax.scan(add_slot, zero, (table, jnp.moveaxis(tokens, 2, 0)))[0]


def _gather_all(tokens: Int[Array, "B P S"], table: Float[Array, "S T D"]) -> Float[Array, "B P D"]:
    def add_slot(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        rows, slot_tokens = slot
        return total + rows[slot_tokens].astype(jnp.float32), None

    zero = jnp.zeros((*tokens.shape[:2], table.shape[-1]), jnp.float32)
    return jax.lax.scan(add_slot, zero, (table, jnp.moveaxis(tokens, 2, 0)))[0]


def _gather_expressed(
    tokens: Int[Array, "B P S"], table: Float[Array, "S T D"], expressed: Int[Array, "B C"]
) -> Float[Array, "B P D"]:
    cells, patches, slots = tokens.shape
    cell = jnp.arange(cells)[:, None]
    visible = tokens.reshape(cells, -1).at[cell, expressed].get(mode="fill", fill_value=PADDING)
    visible = jnp.where((visible > 0) & (visible <= OVERFLOW), visible, PADDING)
    rows = table.reshape(-1, table.shape[-1])[expressed % slots * table.shape[1] + visible]  # (B, C, D)
    zero = jnp.zeros((cells, patches, table.shape[-1]), jnp.float32)
    return zero.at[cell, expressed // slots].add(rows.astype(jnp.float32), mode="drop")


def _sum_of_common(tokens: Int[Array, "B P S"], table: Float[Array, "S T D"]) -> Float[Array, "B P D"]:
    """The tokens that most genes have, as products of indicators with their rows."""
    common = jnp.array([0, MASK])
    indicators = (tokens[:, :, None, :] == common[:, None]).astype(table.dtype)  # (B, P, 2, S)
    return jnp.einsum("bpcs,scd->bpd", indicators, table[:, common], preferred_element_type=jnp.float32)


def _sum_of_absent(absent: Bool[Array, "M P S"], table: Float[Array, "S T D"]) -> Float[Array, "M P D"]:
    """What the genes that were not measured add to every patch."""
    rows = table[:, ABSENT]
    return jnp.einsum("mps,sd->mpd", absent.astype(table.dtype), rows, preferred_element_type=jnp.float32)
