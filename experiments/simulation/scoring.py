"""How likely cells are under a run: the bound per cell, what each gene adds to it, and labels by Bayes."""

# n cells, G genes, L labels

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from experiments.run_data import run_data
from experiments.simulation.conditions import vocabulary_rows
from experiments.simulation.measured import MeasuredCells, labels_of_cells
from lingshu_jax.vocabulary import ConditionField

if TYPE_CHECKING:
    from experiments.load import LoadedRun

GIVEN = "_given_library_size"
"""Ends the names of bounds on -log p(cell | labels, library size)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the bound is estimated."""

    draws: int = 16
    """Noised copies of each cell, at stratified mask rates: the same for every label."""
    seed: int = 0
    """Of masks and rates, with the cell's place in the file."""
    cells_per_device: int = 32

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise InputError(f"draws must be >= 2 for a standard error, got {self.draws}.")
        if self.cells_per_device < 1:
            raise InputError(f"cells_per_device must be >= 1, got {self.cells_per_device}.")


def score_cells(
    run: "LoadedRun", cells: MeasuredCells, labels: pd.DataFrame, scoring: Scoring, progress: Progress = silent
) -> pd.DataFrame:
    """Upper bounds on -log p(cell | labels), by estimate.

    Args:
        run: the run.
        cells: the cells; genes that they lack are told to the model as unmeasured, and count for nothing.
        labels: a column per condition field (n rows).
        scoring: draws and seed.
        progress: called as progress(stage, done, total).

    Returns:
        n rows: `nats`, `standard_error` (over draws), `genes` (measured ones), and `nats_per_gene`. Where the library
        size is given, the names of the nats end in GIVEN: such bounds are not comparable with those without.
    """
    given = GIVEN if library_size_given(run, labels) else ""
    nats, errors = _bound(run, cells, vocabulary_rows(labels, "error", run), scoring, progress, "bound")
    genes = int(cells.measured.sum())
    per_gene = nats / max(1, genes)
    columns = {f"nats{given}": nats, "standard_error": errors, "genes": genes, f"nats_per_gene{given}": per_gene}
    return pd.DataFrame(columns, index=pd.Index(cells.obs.index, name="cell"))


def library_size_given(run: "LoadedRun", labels: pd.DataFrame) -> bool:
    """Do the labels say how large the cells are?"""
    field = run.plan.vocabulary.library_size
    return field is not None and bool(labels[field.name].astype(bool).any())


def labels_to_tell(run: "LoadedRun", cells: MeasuredCells, field: str, given: Mapping[str, str]) -> pd.DataFrame:
    """The labels of the other fields, for `label_posteriors`: the field in question may be missing.

    Raises:
        InputError: the model has no such field, or another one is missing.
    """
    vocabulary = run.plan.vocabulary
    if field not in vocabulary.names:
        raise InputError(f"--by {field!r} is no condition field of the model; it has: {', '.join(vocabulary.names)}.")
    known = vocabulary.field(field)
    if not isinstance(known, ConditionField):
        names = ", ".join(known.name for known in vocabulary.labelled)
        raise InputError(f"--by {field} is a field of numbers: only labels can be told apart ({names or 'none'}).")
    return labels_of_cells(cells, run, {**given, field: [*known.controls, *known.labels][0]})


def label_posteriors(
    run: "LoadedRun",
    cells: MeasuredCells,
    labels: pd.DataFrame,
    field: str,
    scoring: Scoring,
    *,
    training_frequency: bool = False,
    store: Any = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """p(label | cell) over a condition field, from bounds with the same mask rates and masks for every label.

    Args:
        run: the run.
        cells: the cells.
        labels: of `labels_to_tell`.
        field: the field.
        scoring: draws and seed.
        training_frequency: weigh labels by their number of training cells instead of equally; reads the run's store.
        store: where the store is now.
        progress: called as progress(stage, done, total).

    Returns:
        n rows: a column `p(LABEL)` per label of the vocabulary (controls as one), and `label`, the most probable.

    Raises:
        InputError: the model knows less than two labels of the field.
    """
    known = run.plan.vocabulary.field(field)
    assert isinstance(known, ConditionField)  # of labels_to_tell
    names = [*known.controls[:1], *known.labels]
    if len(names) < 2:
        raise InputError(f"the model knows one label of {field} only, {names[0]!r}: there is nothing to tell apart.")
    weights = np.zeros(len(names))
    if training_frequency:
        weights = np.log(_training_cells(run, field, names, store))
    scores: Any = np.empty((cells.n, len(names)))
    for i, name in enumerate(names):
        rows = vocabulary_rows(labels.assign(**{field: name}), "error", run)
        nats: Any = _bound(run, cells, rows, scoring, progress, f"bound as {name}")[0]
        scores[:, i] = weights[i] - nats
    posterior: Any = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    table = pd.DataFrame(posterior, columns=[f"p({name})" for name in names])
    table["label"] = np.array(names, dtype=object)[posterior.argmax(axis=1)]
    return table.set_axis(pd.Index(cells.obs.index, name="cell"), axis=0)


def surprising_genes(
    run: "LoadedRun", cells: MeasuredCells, labels: pd.DataFrame, scoring: Scoring, progress: Progress = silent
) -> pd.DataFrame:
    """What each gene adds to the bound, mean over the cells; over all genes this sums to the cells' mean bound.

    Returns:
        A row per measured gene, the most surprising first: `nats` (its name ends in GIVEN as in `score_cells`),
        `standard_error` (over cells), `mean_count`.
    """
    from lingshu_jax.evaluation.surprise import gene_surprise

    nats, errors, _ = gene_surprise(
        run.model,
        cells.tokens,
        np.arange(cells.n),
        vocabulary_rows(labels, "error", run),
        seed=scoring.seed,
        draws=scoring.draws,
        cells_per_device=scoring.cells_per_device,
        progress=lambda done, total: progress("surprise", done, total),
    )
    means = np.asarray(cells.counts.mean(axis=0)).ravel()
    name = f"nats{GIVEN}" if library_size_given(run, labels) else "nats"
    columns = {name: nats, "standard_error": errors, "mean_count": means}
    table: Any = pd.DataFrame(columns, index=pd.Index(run.plan.panel.genes, name="gene"))
    return table[cells.measured].sort_values(name, ascending=False, kind="stable")


def _bound(
    run: "LoadedRun",
    cells: MeasuredCells,
    rows: dict[str, np.ndarray],
    scoring: Scoring,
    progress: Progress,
    stage: str,
) -> tuple[np.ndarray, np.ndarray]:
    from lingshu_jax.evaluation.bound import bound_of_cells

    return bound_of_cells(
        run.model,
        cells.tokens,
        np.arange(cells.n),
        rows,
        seed=scoring.seed,
        draws=scoring.draws,
        cells_per_device=scoring.cells_per_device,
        progress=lambda done, total: progress(stage, done, total),
    )


def _training_cells(run: "LoadedRun", field: str, names: list[str], store: Any) -> np.ndarray:
    """(L,) training cells of each label."""
    cells, split = run_data(run.folder, store)
    known = run.plan.vocabulary.field(field)
    assert isinstance(known, ConditionField)
    found = cells.obs[field].iloc[split.train].astype(str).value_counts()
    merged = {name: int(found.get(name, 0)) for name in known.labels}
    if known.controls:
        merged[known.controls[0]] = int(sum(found.get(name, 0) for name in known.controls))
    return np.maximum([merged[name] for name in names], 0.5)
