"""The conditions of stored cells as a model takes them, with or without their library size."""

from typing import TYPE_CHECKING

import numpy as np

from data_pipelines import condition_rows
from data_pipelines.errors import InputError
from data_pipelines.slabs import log_library_sizes
from data_pipelines.statistics import blocks_of
from lingshu_jax.vocabulary import LIBRARY_SIZE, ConditionVocabulary

if TYPE_CHECKING:
    from data_pipelines import CellStore


def stored_conditions(
    store: "CellStore", rows: np.ndarray, vocabulary: ConditionVocabulary, *, given_library_size: bool
) -> dict[str, np.ndarray]:
    """Vocabulary rows and numbers (n,) by field; the library size is left out unless it is to be given.

    Raises:
        InputError: the library size is to be given, and is no condition of the model.
    """
    conditions, field = condition_rows(store, rows, vocabulary), vocabulary.library_size
    if not given_library_size:
        return conditions
    if field is None:
        raise InputError(
            f"this model was trained without {LIBRARY_SIZE}: leave --given-library-size out, or train one with "
            "--data.library-size."
        )
    sizes = [log_library_sizes(block.data, block.indptr) for block in map(store.counts, blocks_of(store, rows))]
    return conditions | {field.name: np.concatenate(sizes)}
