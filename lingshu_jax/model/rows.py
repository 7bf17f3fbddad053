"""Rows of a condition field: entries of tables, and rows that stand for a target's features alone."""

# B cells, M members of a set, R rows

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lingshu_jax.vocabulary import FEATURES_ONLY, PAD_ROW

Rows = Int[Array, "B"] | Int[Array, "B M"]


def index_of(rows: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """The vocabulary row, whether or not only its features count."""
    return jnp.where(rows >= FEATURES_ONLY, rows - FEATURES_ONLY, rows)


def features_only(rows: Int[Array, "*B"]) -> Int[Array, "*B"]:
    """The same rows, of which only the target's features count."""
    return index_of(rows) + FEATURES_ONLY


def embed_rows(table: Float[Array, "R *D"], rows: Rows) -> Float[Array, "B *D"]:
    """Entries of a table by row; a set is the sum of its members. PAD_ROW and rows beyond the table add nothing."""
    members = rows if rows.ndim == 2 else rows[:, None]
    present = ((members != PAD_ROW) & (members < len(table))).reshape(*members.shape, *[1] * (table.ndim - 1))
    return jnp.where(present, table[jnp.clip(members, 0, len(table) - 1)], 0.0).sum(axis=1)
