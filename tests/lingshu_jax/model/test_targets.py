import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lingshu_jax.model import Denoiser, TargetFeatures
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.rows import embed_rows, features_only
from lingshu_jax.model.targets import drop_rows, has_features
from lingshu_jax.tokens import MASK
from lingshu_jax.vocabulary import CONTROL_ROW, FEATURES_ONLY, NULL_ROW, PAD_ROW, UnknownLabel
from tests.lingshu_jax.tiny import CONFIG, GENES, VOCABULARY, cells, moved, statistics

TOLD = VOCABULARY.with_unseen(("Y", "Z", "W"))
FIELD = TOLD.field("target")
FEATURES = np.zeros((FIELD.rows_with_features, 3), np.float32)
FEATURES[FIELD.first_row :] = np.random.default_rng(0).normal(size=(4, 3))  # X, Y, Z, W


def model(features=FEATURES, *, trained=True):
    config = dataclasses.replace(CONFIG, features=TargetFeatures(size=3))
    told = dataclasses.replace(statistics(), target_features=features)
    layout = GeneLayout.random(GENES, config.genes_per_patch)
    made = Denoiser(config, layout, TOLD, statistics=told, rngs=nnx.Rngs(0))
    return moved(made) if trained else made


def logits(made, target):
    masked = jnp.where(jax.random.uniform(jax.random.key(1), (1, GENES)) < 0.5, MASK, cells(1))
    return made(masked, {"line": jnp.array([1]), "target": jnp.asarray([target])})


def test_unseen_targets_stand_behind_the_labels():
    assert FIELD.unseen == ("Z", "W")
    assert FIELD.features_row("Z") == FEATURES_ONLY + FIELD.rows
    with pytest.raises(
        UnknownLabel, match=r"'Q' has neither training cells nor target features \(nearest with features"
    ):
        FIELD.features_row("Q")
    assert type(TOLD).from_json(TOLD.to_json()) == TOLD


def test_rows_beyond_a_table_and_padding_add_nothing():
    table = jnp.arange(6.0).reshape(3, 2)
    rows = jnp.array([[0, 2], [PAD_ROW, 1], [features_only(jnp.array(1)), 7]])
    np.testing.assert_array_equal(embed_rows(table, rows), [[4.0, 6.0], [2.0, 3.0], [0.0, 0.0]])


def test_an_unseen_target_is_known_by_its_features():
    swapped = FEATURES.copy()
    swapped[[FIELD.rows, FIELD.rows + 1]] = swapped[[FIELD.rows + 1, FIELD.rows]]
    z, w = (logits(model(), FIELD.features_row(label)) for label in "ZW")
    assert not np.allclose(z, w, atol=1e-3)
    np.testing.assert_allclose(logits(model(swapped), FIELD.features_row("W")), z, atol=1e-5)


def test_before_training_labels_differ_by_their_features_only():
    made = model(trained=False)
    table = made.condition_tokens.tables["target"][...]
    assert (table[FIELD.first_row :] == 0).all() and (table[: FIELD.first_row] != 0).any()
    tokens = made.condition_tokens({"line": jnp.ones(2, int), "target": jnp.array([2, 3])}, made.features)
    assert not np.allclose(tokens[0, 1], tokens[1, 1])


def test_rows_are_dropped_at_their_rate_where_there_are_features():
    rows = jnp.tile(jnp.array([NULL_ROW, CONTROL_ROW, 2, 3]), 5_000)
    dropped = drop_rows(rows, jnp.asarray(FEATURES), jnp.arange(20_000), jax.random.key(0), 0.5)
    share = [float((dropped[rows == row] >= FEATURES_ONLY).mean()) for row in range(4)]
    assert share[:2] == [0.0, 0.0] and all(abs(x - 0.5) < 0.03 for x in share[2:])
    np.testing.assert_array_equal(np.where(dropped >= FEATURES_ONLY, dropped - FEATURES_ONLY, dropped), rows)
    without = jnp.asarray(FEATURES).at[2].set(0.0)
    assert has_features(without, jnp.array([2, 3])).tolist() == [False, True]


def test_features_of_other_rows_are_refused():
    with pytest.raises(ValueError, match=r"must be of shape \(6, 3\), got \(5, 3\)"):
        model(FEATURES[:-1])
