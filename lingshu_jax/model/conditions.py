"""Condition tokens (paper section 4): one prepended token per field, never masked and never predicted."""

# B cells, F fields, D width, M members of a perturbation set

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.model.parameters import scaled_normal
from lingshu_jax.vocabulary import PAD_ROW, ConditionVocabulary

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

    def __call__(self, conditions: Mapping[str, Int[Array, "B"] | Int[Array, "B M"]]) -> Float[Array, "B F D"]:
        """Embed every field in the vocabulary's order; a set (B, M), padded with PAD_ROW, is the sum of its members.

        Raises:
            ValueError: a field is missing or unknown, by name.
        """
        missing, extra = set(self.names) - set(conditions), set(conditions) - set(self.names)
        if missing or extra:
            raise ValueError(
                f"this model takes the conditions {list(self.names)}; missing {sorted(missing)}, unknown {sorted(extra)}."
            )
        return jnp.stack([_embed(self.tables[name][...], conditions[name]) for name in self.names], axis=1)


def _embed(table: Float[Array, "R D"], rows: Int[Array, "B"] | Int[Array, "B M"]) -> Float[Array, "B D"]:
    members = rows if rows.ndim == 2 else rows[:, None]
    embedded = jnp.where((members == PAD_ROW)[..., None], 0.0, table[jnp.maximum(members, 0)])
    return embedded.sum(axis=1)
