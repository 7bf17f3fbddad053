"""Condition labels as people write them into what a model takes: checked tables, vocabulary rows, digests."""

# C conditions, M members of a perturbation set

import functools
import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from data_pipelines.errors import InputError
from lingshu_jax.diffusion import NoGuidance, NullGuidance, SamplerConfig
from lingshu_jax.vocabulary import (
    NULL_ROW,
    PAD_ROW,
    ConditionField,
    ConditionVocabulary,
    Field,
    NumberField,
    UnknownLabel,
)

if TYPE_CHECKING:
    from experiments.load import LoadedRun

Unseen = Literal["error", "features", "null"]
N_CELLS = "n_cells"
MOST_CELLS = 100_000_000
"""Of one condition in one table: more do not fit into one AnnData."""


def check_conditions(conditions: pd.DataFrame, vocabulary: ConditionVocabulary) -> pd.DataFrame:
    """The table with the model's fields as text and n_cells as whole numbers; a number that is left out is empty.

    Raises:
        InputError: a column is missing or unknown, a number is none, or one of cells is not a whole number >= 1.
    """
    wanted, present = {*vocabulary.names, N_CELLS}, set(conditions.columns)
    needed = wanted - {field.name for field in vocabulary.fields if field.optional}
    if needed - present:
        raise InputError(
            f"the conditions lack {', '.join(sorted(needed - present))} (columns there: "
            f"{', '.join(map(str, conditions))}). The model takes: {', '.join([*vocabulary.names, N_CELLS])}."
        )
    if present - wanted:
        raise InputError(
            f"the model has no condition field {sorted(present - wanted)[0]!r}; "
            f"it takes: {', '.join(vocabulary.names) or 'none'}."
        )
    numbers = np.asarray(pd.to_numeric(conditions[N_CELLS], errors="coerce"), np.float64)
    bad = ~((numbers >= 1) & (numbers <= MOST_CELLS))
    bad[~bad] = numbers[~bad] % 1 != 0
    if bad.any():
        raise InputError(
            f"n_cells must be a whole number in 1..{MOST_CELLS:,}, got {str(conditions[N_CELLS][bad].iloc[0])[:40]!r}. "
            "Draw more in several calls with other seeds."
        )
    if not len(numbers):
        raise InputError("the table of conditions has no row. Give it a row per condition.")
    nothing = pd.Series("", index=conditions.index)
    texts = {field.name: field_texts(field, conditions.get(field.name, nothing)) for field in vocabulary.fields}
    table = pd.DataFrame({**texts, N_CELLS: numbers.astype(int)})
    names = list(vocabulary.names)
    twice = table.duplicated(names) if names else table.index != table.index[0]
    if twice.any():
        raise InputError(f"condition {tuple(table[names][twice].iloc[0])} is listed twice. Add up its n_cells.")
    return table


def field_texts(field: Field, values: Any) -> np.ndarray:
    """A column of a field as text, object (C,).

    Raises:
        InputError: it is of numbers, and a value is none.
    """
    values = pd.Series(values).astype(str)
    try:
        known = {value: field.text(value) for value in pd.unique(values)}
    except UnknownLabel as error:
        raise InputError(str(error)) from None
    return values.map(known).to_numpy(dtype=object)


def as_obs(labels: pd.DataFrame, vocabulary: ConditionVocabulary) -> pd.DataFrame:
    """Texts of conditions as columns of obs: labels as categories, numbers as numbers, NaN where left out."""
    numbers = {field.name: labels[field.name].map(field.number).astype(float) for field in vocabulary.numbers}
    return labels.astype("category").assign(**numbers)


def vocabulary_rows(labels: pd.DataFrame, unseen: Unseen, run: "LoadedRun") -> dict[str, np.ndarray]:
    """What a model takes, by field: vocabulary rows (C,), or (C, M) where a label is a set of perturbations; numbers
    (C,), NaN where left out.

    Raises:
        InputError: a label has no training cells, and `unseen` or the model does not allow for that.
    """
    policies = get_args(Unseen)
    if unseen not in policies:
        raise InputError(f"unseen={unseen!r} is no policy for labels without training cells ({', '.join(policies)}).")
    columns: Any = labels
    return {field.name: _values(field, columns[field.name], unseen, run) for field in run.plan.vocabulary.fields}


@functools.singledispatch
def _values(field: Any, texts: pd.Series, unseen: Unseen, run: "LoadedRun") -> np.ndarray:
    raise TypeError(f"no values for {type(field).__name__}.")


@_values.register(NumberField)
def _(field: NumberField, texts: pd.Series, unseen: Unseen, run: "LoadedRun") -> np.ndarray:
    return np.array([field.number(text) for text in texts], np.float32)


@_values.register(ConditionField)
def _(field: ConditionField, labels: pd.Series, unseen: Unseen, run: "LoadedRun") -> np.ndarray:
    known = {label: _row_set(label, field, unseen, run) for label in pd.unique(labels)}
    width = max(map(len, known.values()))
    rows = np.full((len(labels), width), PAD_ROW, np.int32)
    for i, label in enumerate(labels):
        rows[i, : len(known[label])] = known[label]
    return rows[:, 0] if width == 1 else rows


def _row_set(label: str, field: ConditionField, unseen: Unseen, run: "LoadedRun") -> tuple[int, ...]:
    """Rows of a label's members; where one has no training cells, what the policy says."""
    try:
        return field.row_set(label)
    except UnknownLabel as error:
        if field.kind != "perturbation" or unseen == "error":
            raise InputError(f"{error}{_way_out(field)}") from None
        if unseen == "features":
            return tuple(_by_features(member, field) for member in field.members(label))
        if run.plan.experiment.training.condition_dropout == 0:
            raise InputError(
                f"{error} This model was trained without a null {field.name}, so --unseen null cannot be used."
            ) from None
        return (NULL_ROW,)


def _by_features(label: str, field: ConditionField) -> int:
    if label in field.labels or field.is_control(label):
        return field.row(label)
    if not field.unseen:
        raise InputError(
            f"{field.name} {label!r} has no training cells, and this model was trained without target features. "
            "Train one that has some: --model.features target."
        )
    try:
        return field.features_row(label)
    except UnknownLabel as error:
        raise InputError(str(error)) from None


def _way_out(field: ConditionField) -> str:
    if field.kind != "perturbation":
        return ""
    by_features = "--unseen features to use its target features, or " if field.unseen else ""
    return f" Pass {by_features}--unseen null to use the null condition."


def check_guidance(labels: pd.DataFrame, sampler: SamplerConfig, run: "LoadedRun") -> None:
    """Require that there is something to guide away from.

    Raises:
        InputError: the model has no perturbation, no null, or no training controls of a context.
    """
    if isinstance(sampler.guidance, NoGuidance):
        return
    field = run.plan.vocabulary.perturbation
    if field is None:
        raise InputError("guidance needs a perturbation field, and this model has none. Leave --guidance out.")
    if isinstance(sampler.guidance, NullGuidance):
        if run.plan.experiment.training.condition_dropout == 0:
            raise InputError(
                f"this model was trained without a null {field.name} (training.condition_dropout 0), so nothing can be "
                "guided against it. Use control guidance."
            )
        return
    contexts = [field.name for field in run.plan.vocabulary.contexts]
    for context in labels[contexts].drop_duplicates().itertuples(index=False):
        if contexts and tuple(context) not in run.plan.controls:
            raise InputError(
                f"context {', '.join(context)} has no training controls, so nothing can be guided against them. "
                "Sample it without guidance."
            )


def condition_digests(labels: pd.DataFrame) -> np.ndarray:
    """A 64-bit number per condition from its labels and numbers alone: uint64 (C,)."""
    rows = labels.to_numpy(dtype=object)  # also where there is no field
    return digests(json.dumps(dict(zip(labels.columns, row, strict=True))) for row in rows)


def digests(texts: Iterable[str]) -> np.ndarray:
    """A 64-bit number per text: uint64 (n,)."""
    found = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(found), "<u8")
