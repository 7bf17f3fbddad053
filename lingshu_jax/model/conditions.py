"""Condition tokens (paper section 4): one prepended token per field, never masked and never predicted."""

# B cells, F fields, D width, M members of a perturbation set

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.model.parameters import scaled_normal
from lingshu_jax.vocabulary import PAD_ROW, ConditionVocabulary

Conditions = Mapping[str, Int[Array, "B"] | Int[Array, "B M"]]
"""Vocabulary rows by field; a set of perturbations has M members, padded with PAD_ROW."""
CONDITION_SCALE = 0.5


class ConditionTokens(nnx.Module):
    """A table of label embeddings per field; null and control are rows of their own."""

    def __init__(self, vocabulary: ConditionVocabulary, width: int, *, rngs: nnx.Rngs):
        """One (rows, D) table per field of the vocabulary."""
        self.names = vocabulary.names
        self.tables = nnx.Dict(
            {
                field.name: scaled_normal(rngs, (field.rows, width), (None, "embed"), CONDITION_SCALE)
                for field in vocabulary.fields
            }
        )

    def __call__(self, conditions: Conditions) -> Float[Array, "B F D"]:
        """Embed every field in the vocabulary's order; a set (B, M), padded with PAD_ROW, is the sum of its members."""
        return jnp.stack([embed_rows(self.tables[name][...], conditions[name]) for name in self.names], axis=1)

    def check(self, conditions: Conditions) -> None:
        """Refuse conditions that are not exactly the model's fields.

        Raises:
            ValueError: a field is missing or unknown, by name.
        """
        missing, extra = set(self.names) - set(conditions), set(conditions) - set(self.names)
        if missing or extra:
            raise ValueError(
                f"this model takes the conditions {list(self.names)}; "
                f"missing {sorted(missing)}, unknown {sorted(extra)}."
            )


def embed_rows(table: Float[Array, "R *D"], rows: Int[Array, "B"] | Int[Array, "B M"]) -> Float[Array, "B *D"]:
    """Entries of a table by vocabulary row; a set is the sum of its members, PAD_ROW adds nothing."""
    members = rows if rows.ndim == 2 else rows[:, None]
    present = (members != PAD_ROW).reshape(*members.shape, *[1] * (table.ndim - 1))
    return jnp.where(present, table[jnp.maximum(members, 0)], 0.0).sum(axis=1)
