"""Condition tokens (paper section 4): one prepended token per field, never masked and never predicted."""

# B cells, F fields, D width, M members of a perturbation set

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.model.config import Features, TargetFeatures
from lingshu_jax.model.parameters import scaled_normal
from lingshu_jax.model.rows import embed_field
from lingshu_jax.model.targets import TargetProjection
from lingshu_jax.vocabulary import ConditionVocabulary, Field

Conditions = Mapping[str, Int[Array, "B"] | Int[Array, "B M"] | Float[Array, "B"]]
"""By field: vocabulary rows, where a set of perturbations has M members, padded with PAD_ROW; or numbers, NaN where
they are left out."""
CONDITION_SCALE = 0.5


class ConditionTokens(nnx.Module):
    """A table of embeddings per field; null and control are rows of their own."""

    def __init__(self, vocabulary: ConditionVocabulary, width: int, features: Features, *, rngs: nnx.Rngs):
        """One (rows, D) table per field of the vocabulary; with target features, labels of perturbations start at 0."""
        self.vocabulary, self.perturbation = vocabulary, vocabulary.perturbation and vocabulary.perturbation.name
        told = isinstance(features, TargetFeatures)
        self.projection = TargetProjection(features.size, width, scale=CONDITION_SCALE, rngs=rngs) if told else None
        self.tables = nnx.Dict({field.name: self._table(field, width, rngs) for field in vocabulary.fields})

    def _table(self, field: Field, width: int, rngs: nnx.Rngs) -> nnx.Param:
        table = scaled_normal(rngs, (field.rows, width), (None, "embed"), CONDITION_SCALE)
        if field is self.vocabulary.perturbation and self.projection is not None:
            table[...] = table[...].at[field.first_row :].set(0.0)
        return table

    def __call__(self, conditions: Conditions, features: Float[Array, "R K"] | None = None) -> Float[Array, "B F D"]:
        """Embed every field in the vocabulary's order; a set (B, M), padded with PAD_ROW, is the sum of its members."""
        tokens = {
            field.name: embed_field(field, self.tables[field.name][...], conditions[field.name])
            for field in self.vocabulary.fields
        }
        if self.projection is not None:
            assert features is not None and self.perturbation is not None
            told = self.projection(features, conditions[self.perturbation])
            tokens[self.perturbation] = tokens[self.perturbation] + told
        return jnp.stack([tokens[name] for name in self.vocabulary.names], axis=1)

    def check(self, conditions: Conditions) -> None:
        """Refuse conditions that are not exactly the model's fields.

        Raises:
            ValueError: a field is missing or unknown, by name.
        """
        names = self.vocabulary.names
        missing, extra = set(names) - set(conditions), set(conditions) - set(names)
        if missing or extra:
            raise ValueError(
                f"this model takes the conditions {list(names)}; missing {sorted(missing)}, unknown {sorted(extra)}."
            )
