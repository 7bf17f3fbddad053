"""Prior injection (paper section 6): genes that are told their value before anything is drawn.

From a table of one's own, or from training cells of *other* contexts: what a perturbation turned down there.
"""

import dataclasses
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from experiments.text_table import read_text_table
from lingshu_jax.vocabulary import ConditionVocabulary, GenePanel, nearest

if TYPE_CHECKING:
    from data_pipelines import CellStore, Split

GENE, VALUE = "gene", "value"
NOT_TOLD = -1
"""Stands where a gene is not told."""
INJECTED = 1
"""The count that a gene turned down is told: the paper's."""
EXPRESSED_ABOVE = 2.0
"""Mean count in the context's controls above which writing 1 lowers a gene; below, it would raise many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPrior:
    """Nothing is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPrior:
    """Genes that the perturbation turns down in training cells of every other context get the count 1."""

    rule: Literal["expressed", "paper"] = "expressed"
    """`paper`: all of them. `expressed`: those whose mean in the context's own training controls is above 2."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TablePrior:
    """Genes and counts of a csv: columns of condition fields (any of them, or none), gene and value."""

    path: pathlib.Path


Prior = NoPrior | TrainingPrior | TablePrior


def parse_prior(text: str) -> Prior:
    """A prior as the command line names it: none, expressed, paper, or a csv file.

    Raises:
        InputError: it is none of these.
    """
    if text == "none":
        return NoPrior()
    if text in ("expressed", "paper"):
        return TrainingPrior(rule=text)
    if not pathlib.Path(text).is_file():
        raise InputError(f"--prior {text!r} is neither none, expressed or paper nor a file with gene and value.")
    return TablePrior(path=pathlib.Path(text))


def table_counts(
    prior: TablePrior, conditions: pd.DataFrame, vocabulary: ConditionVocabulary, panel: GenePanel
) -> np.ndarray:
    """Told counts int32 (conditions, G): those of the table, NOT_TOLD elsewhere.

    Raises:
        InputError: a column, a gene or a label is unknown, a value is no count, or a gene has two.
    """
    rows = read_text_table(prior.path)
    names = [field.name for field in vocabulary.labelled]
    missing, unknown = {GENE, VALUE} - set(rows), set(rows) - {GENE, VALUE, *names}
    if missing or unknown:
        raise InputError(
            f"{prior.path} must have the columns {GENE} and {VALUE}, and any of {', '.join(names)}; "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}."
        )
    place = panel.positions
    strange = [gene for gene in rows[GENE] if gene not in place]
    if strange:
        near = nearest(strange[0], list(panel.genes))
        raise InputError(f"{prior.path}: gene {strange[0]!r} is not in the run's panel (nearest: {near}).")
    values: Any = np.asarray(pd.to_numeric(rows[VALUE], errors="coerce"), np.float64)
    if not ((values >= 0) & (values % 1 == 0) & (values < 2**31)).all():
        raise InputError(f"{prior.path}: {VALUE} must be counts, whole numbers >= 0.")
    fields = [name for name in names if name in rows]
    _check_rows(prior.path, rows, fields, vocabulary)
    counts = np.full((len(conditions), len(panel)), NOT_TOLD, np.int32)
    genes = np.array([place[gene] for gene in rows[GENE]], np.int64)
    for i, condition in enumerate(conditions[fields].itertuples(index=False, name=None)):
        mine = np.ones(len(rows), bool)
        for name, label in zip(fields, condition, strict=True):
            mine &= (rows[name] == str(label)).to_numpy()
        told, first = np.unique(genes[mine], return_index=True)
        if len(told) < mine.sum():
            twice = next(gene for gene, number in Counter(rows[GENE].to_numpy()[mine]).items() if number > 1)
            raise InputError(
                f"{prior.path}: gene {twice!r} is told more than once for {', '.join(map(str, condition)) or 'all'}. "
                "Keep one of its rows."
            )
        counts[i, told] = values[mine][first]
    return counts


def _check_rows(path: pathlib.Path, rows: pd.DataFrame, fields: list[str], vocabulary: ConditionVocabulary) -> None:
    if not len(rows):
        raise InputError(f"{path} has no row. Give it a row per gene, or leave --prior out.")
    for name in fields:
        field: Any = vocabulary.field(name)
        known = {*field.labels, *field.controls}
        for label in dict.fromkeys(rows[name]):
            strange = [member for member in field.members(label) if member not in known]
            # Perturbations without training cells may be drawn too, by --unseen.
            if strange and field.kind != "perturbation":
                raise InputError(
                    f"{path}: {name} {label!r} is not in the training vocabulary (nearest: {nearest(label, known)})."
                )


def training_counts(
    prior: TrainingPrior,
    conditions: pd.DataFrame,
    vocabulary: ConditionVocabulary,
    store: "CellStore",
    split: "Split",
    *,
    progress: Progress = silent,
) -> np.ndarray:
    """Told counts int32 (conditions, G): 1 where the perturbation turns a gene down in other contexts, else NOT_TOLD.

    Cells of a condition's own context are not looked at but for the means of its controls (rule `expressed`).

    Raises:
        InputError: there is no perturbation, no other context, or no training control of the context to go by.
    """
    from data_pipelines.derived import control_means, down_regulated

    field = vocabulary.perturbation
    if field is None:
        raise InputError("prior injection needs a perturbation field, and this model has none. Leave --prior out.")
    contexts = [field.name for field in vocabulary.contexts]
    if contexts != list(store.columns.context):
        raise InputError("prior injection needs to know a cell's context, and this model was trained without it.")
    down = down_regulated(store, split, progress=progress)
    if len({key[:-1] for key in down}) < 2:
        raise InputError(
            "prior injection takes what a perturbation turns down in other contexts, and training has one context "
            "only. Leave --prior out, or give a table."
        )
    means = control_means(store, split, progress=progress) if prior.rule == "expressed" else {}
    counts = np.full((len(conditions), store.n_genes), NOT_TOLD, np.int32)
    for i, row in enumerate(conditions[[*contexts, field.name]].astype(str).itertuples(index=False, name=None)):
        here, members = row[:-1], field.members(row[-1])
        found = [genes for key, genes in down.items() if key[-1] in members and key[:-1] != here]
        genes = np.unique(np.concatenate([np.zeros(0, np.int32), *found]))
        if prior.rule == "expressed":
            if here not in means:
                raise InputError(
                    f"context {', '.join(here)} has no training controls to tell which genes it expresses. "
                    "Take --prior paper, or a table."
                )
            genes = genes[means[here][genes] > EXPRESSED_ABOVE]
        counts[i, genes] = INJECTED
    return counts
