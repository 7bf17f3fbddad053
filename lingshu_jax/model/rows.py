"""What a condition field says of cells: rows of its table by label, or weights of them by number.

Rows may stand for a target's features alone.
"""

# B cells, M members of a set, R rows

import functools
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lingshu_jax.vocabulary import CONTROL_ROW, FEATURES_ONLY, NULL_ROW, PAD_ROW, ConditionField, NumberField

Rows = Int[Array, "B"] | Int[Array, "B M"]
FARTHEST_TOLD = 5.0
"""Standard deviations beyond which a number is told as this many: no map of it was learnt out there."""


@functools.singledispatch
def embed_field(field: Any, table: Float[Array, "R D"], values: Array) -> Float[Array, "B D"]:
    """What a field's values say, by its table of `field.rows` rows."""
    raise TypeError(f"no embedding for {type(field).__name__}.")


@embed_field.register
def _(field: ConditionField, table: Float[Array, "R D"], values: Rows) -> Float[Array, "B D"]:
    return embed_rows(table, values)


@embed_field.register
def _(field: NumberField, table: Float[Array, "R D"], values: Float[Array, "B"]) -> Float[Array, "B D"]:
    return number_features(field, values) @ table


def number_features(field: NumberField, values: Float[Array, "B"]) -> Float[Array, "B R"]:
    """Weights of a number field's rows: the null row alone where the number is left out (NaN), else none of it.

    The others are 1, z, sin z, cos z, sin 2z, cos 2z of the standardised number z: bounded, and of about one size.
    """
    given = ~jnp.isnan(values)
    z = jnp.where(given, (values - field.mean) / field.scale, 0.0)
    z = jnp.clip(z, -FARTHEST_TOLD, FARTHEST_TOLD)
    told = jnp.stack([jnp.ones_like(z), z, *(wave(k * z) for k in (1, 2) for wave in (jnp.sin, jnp.cos))], axis=1)
    told = jnp.where(given[:, None], told, 0.0)
    return jnp.insert(told, NULL_ROW, (~given).astype(told.dtype), axis=1)


def index_of(rows: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """The vocabulary row, whether or not only its features count."""
    return jnp.where(rows >= FEATURES_ONLY, rows - FEATURES_ONLY, rows)


def features_only(rows: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """The same rows, of which only the target's features count."""
    return index_of(rows) + FEATURES_ONLY


def embed_rows(table: Float[Array, "R *D"], rows: Rows) -> Float[Array, "B *D"]:
    """Entries of a table by row; a set is the sum of its members. PAD_ROW and rows beyond the table add nothing."""
    members = rows if rows.ndim == 2 else rows[:, None]
    present = _present(table, members).reshape(*members.shape, *[1] * (table.ndim - 1))
    return jnp.where(present, table[jnp.clip(members, 0, len(table) - 1)], 0.0).sum(axis=1)


def embed_effects(
    table: Float[Array, "R *D"], rows: Rows, control: int | Int[Array, "B"] = CONTROL_ROW
) -> Float[Array, "B *D"]:
    """As `embed_rows`, but members of a set add what they do beyond the control (row `control`), which counts once."""
    told = embed_rows(table, rows)
    if rows.ndim == 1:
        return told
    beyond = jnp.maximum(_present(table, rows).sum(axis=1) - 1, 0)
    return told - beyond.reshape(-1, *[1] * (table.ndim - 1)) * table[control]


def _present(table: Float[Array, "R *D"], members: Int[Array, "B M"]) -> Bool[Array, "B M"]:
    return (members != PAD_ROW) & (members < len(table))
