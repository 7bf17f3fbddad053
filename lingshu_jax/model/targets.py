"""Target features: what is known of a perturbation beforehand, so that one without training cells has a meaning.

A perturbation is the projection of its target's features plus a row of its own. The row starts at zero and is dropped
for a random half of the training cells, so the projection must carry what the features tell; an unseen target is the
projection alone.
"""

# B cells, M members of a set, R rows (labels and unseen targets), K features, D outputs

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from lingshu_jax.model.config import Features, NoFeatures
from lingshu_jax.model.parameters import Fixed, scaled_normal, zeros
from lingshu_jax.model.rows import embed_rows, features_only, index_of
from lingshu_jax.vocabulary import PAD_ROW, ConditionVocabulary


def feature_table(config: Features, vocabulary: ConditionVocabulary, values: np.ndarray | None) -> Fixed | None:
    """The features by vocabulary row, fp32 (R, K): of null, control, labels, unseen targets. Zeros without values.

    Raises:
        ValueError: the values are not of these rows.
    """
    if isinstance(config, NoFeatures):
        return None
    if vocabulary.perturbation is None:
        raise ValueError("target features need a perturbation field. Leave model.features out.")
    shape = (vocabulary.perturbation.rows_with_features, config.size)
    values = np.zeros(shape, np.float32) if values is None else np.asarray(values, np.float32)
    if values.shape != shape:
        raise ValueError(f"target features must be of shape {shape}, got {values.shape}.")
    return Fixed(values)


class TargetProjection(nnx.Module):
    """Features to what they add; `scale` 0 starts at nothing."""

    def __init__(self, size: int, out: int, *, scale: float, rngs: nnx.Rngs):
        """A (K, D) matrix."""
        axes = (None, None)
        self.weight = scaled_normal(rngs, (size, out), axes, scale * size**-0.5) if scale else zeros((size, out), axes)

    def __call__(self, features: Float[Array, "R K"], rows: Int[Array, "B"] | Int[Array, "B M"]) -> Float[Array, "B D"]:
        return embed_rows(features, index_of(rows)) @ self.weight[...]


def has_features(features: Float[Array, "R K"], rows: Int[Array, "*B"]) -> Bool[Array, "*B"]:
    """Is anything known of the target of each row?"""
    return (features != 0).any(axis=1)[jnp.maximum(index_of(rows), 0)] & (rows != PAD_ROW)


def drop_rows(
    rows: Int[Array, "B"], features: Float[Array, "R K"], position: Int[Array, "B"], key: Key[Array, ""], rate: float
) -> Int[Array, "B"]:
    """Leave a random share of the cells with the features of their perturbation alone, where it has any."""
    draws = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(position)
    return jnp.where((draws < rate) & has_features(features, rows), features_only(rows), rows)
