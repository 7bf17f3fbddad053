"""What a run predicts that perturbations do: mean shifts and DE tables from cells that are drawn and not kept."""

# n cells of a condition, G genes, K perturbations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from experiments.prior import NoPrior, Prior
from experiments.simulation.conditions import N_CELLS, Unseen
from experiments.simulation.request import SampleRequest
from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.vocabulary import ConditionField, nearest

if TYPE_CHECKING:
    from experiments.load import LoadedRun

TARGET_SUM = 10_000.0
"""Counts are scaled to so many per cell before log1p."""
PSEUDOCOUNT = 0.01
"""Added to both means of scaled counts in a fold change: one count in a hundred cells."""
CELLS = 400
_GENES_TOGETHER = 512


@dataclasses.dataclass(frozen=True, eq=False)
class PredictedEffects:
    """Perturbations of one context against its sampled controls."""

    delta: pd.DataFrame
    """(K, G): mean log1p expression minus that of controls."""
    control: pd.Series
    """(G,): mean log1p expression of sampled controls."""
    de: pd.DataFrame
    """A row per perturbation and gene that either side expresses: perturbation, gene, log2_fold_change, p
    (Mann-Whitney on log1p expression), fdr (Benjamini-Hochberg within the perturbation); the smallest p first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """How cells of an effect are drawn."""

    n: int = CELLS
    """Cells per perturbation, and of controls."""
    sampler: SamplerConfig
    seed: int = 0
    unseen: Unseen = "error"
    prior: Prior = NoPrior()

    def __post_init__(self) -> None:
        if self.n < 2:
            raise InputError(f"an effect needs at least 2 cells per perturbation, got n = {self.n}.")


def predict_effect(
    run: "LoadedRun",
    context: Mapping[str, str] | str,
    perturbations: Sequence[str],
    drawing: Drawing,
    *,
    progress: Progress = silent,
) -> PredictedEffects:
    """Draw perturbed cells and controls of a context and compare them; one perturbation is held at a time.

    Args:
        run: the run.
        context: a label per context field, and numbers where they are to be given; for a model with one context field,
            the label alone.
        perturbations: labels; A+B for both.
        drawing: cells per condition, sampler, seed.
        progress: called as progress(stage, done, total).

    Raises:
        InputError: there is no perturbation field, or a label is unknown.
    """
    field, where = _fields(run, context, perturbations)
    draw = _Draw(run, where, field, drawing)
    requests = [draw.request(name, progress) for name in perturbations]  # all are checked before one is drawn
    control = _expression(draw.request(field.controls[0], progress))
    deltas, tables = [], []
    for done, (name, request) in enumerate(zip(perturbations, requests, strict=True), 1):
        cells = _expression(request)
        deltas.append(_mean(cells) - _mean(control))
        tables.append(_de_table(name, cells, control, run.plan.panel.genes))
        progress("effects", done, len(requests))
    genes = pd.Index(run.plan.panel.genes, name="gene")
    return PredictedEffects(
        delta=pd.DataFrame(np.stack(deltas), index=pd.Index(perturbations, name=field.name), columns=genes),
        control=pd.Series(_mean(control), index=genes, name="control"),
        de=pd.concat(tables, ignore_index=True),
    )


def rank_perturbations(
    run: "LoadedRun",
    context: Mapping[str, str] | str,
    target_state: pd.Series,
    candidates: Sequence[str],
    drawing: Drawing,
    *,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Candidates by how close they are predicted to bring a context to a wanted state: virtual screening.

    Args:
        run: the run.
        context: as in `predict_effect`.
        target_state: wanted mean log1p expression (counts scaled to 10,000 a cell) by gene; genes that it lacks do not
            count.
        candidates: perturbation labels.
        drawing: cells per condition, sampler, seed.
        progress: called as progress(stage, done, total).

    Returns:
        A row per candidate, the closest first: `distance` (root mean square over genes between predicted and wanted
        mean), `without` (the same of controls: a candidate above it leads away), `pearson` (of predicted and wanted
        change).

    Raises:
        InputError: the wanted state has no gene of the panel, or a value that is no number; or as `predict_effect`.
    """
    field, where = _fields(run, context, candidates)
    state: Any = target_state
    wanted = state[[gene for gene in state.index if gene in run.plan.panel.positions]].astype(float)
    if not len(wanted) or not np.isfinite(wanted).all() or wanted.index.has_duplicates:
        raise InputError(
            "the wanted state must be finite numbers by gene of the run's panel, each gene once; "
            f"it has {len(wanted)} such genes of {len(target_state)}."
        )
    draw = _Draw(run, where, field, drawing)
    requests = [draw.request(name, progress) for name in candidates]
    place = [run.plan.panel.positions[gene] for gene in wanted.index]
    goal = wanted.to_numpy()
    control = _mean(_expression(draw.request(field.controls[0], progress)))[place]
    rows = []
    for done, request in enumerate(requests, 1):
        mean = _mean(_expression(request))[place]
        change, want = mean - control, goal - control
        spread = change.std() * want.std()
        pearson = float(np.mean((change - change.mean()) * (want - want.mean())) / spread) if spread else np.nan
        rows.append((_rms(mean - goal), _rms(control - goal), pearson))
        progress("candidates", done, len(requests))
    columns = ["distance", "without", "pearson"]
    table = pd.DataFrame(rows, columns=columns, index=pd.Index(list(candidates), name=field.name))
    return table.sort_values("distance", kind="stable")


@dataclasses.dataclass(frozen=True, eq=False)
class _Draw:
    run: "LoadedRun"
    where: dict[str, str]
    field: ConditionField
    drawing: Drawing

    def request(self, label: str, progress: Progress) -> SampleRequest:
        table = pd.DataFrame([{**self.where, self.field.name: label, N_CELLS: self.drawing.n}])
        drawing = self.drawing
        return SampleRequest.make(
            self.run, table, drawing.sampler, drawing.seed, drawing.unseen, drawing.prior, None, progress
        )


def _fields(
    run: "LoadedRun", context: Mapping[str, str] | str, perturbations: Sequence[str]
) -> tuple[ConditionField, dict[str, str]]:
    field = run.plan.vocabulary.perturbation
    if field is None:
        raise InputError("effects need a perturbation field, and this model has none.")
    names = [known.name for known in run.plan.vocabulary.contexts]
    if isinstance(context, str):
        if len(names) != 1:
            raise InputError(f"the context has {len(names)} fields: give a label for each of {', '.join(names)}.")
        context = {names[0]: context}
    numbers = {known.name for known in run.plan.vocabulary.numbers}
    if set(context) - numbers != set(names):
        raise InputError(f"the context must name {', '.join(names) or 'nothing'}; it names {', '.join(context)}.")
    if not len(perturbations) or isinstance(perturbations, str):
        raise InputError(f"give a list of perturbations (nearest: {nearest('', field.labels)}).")
    if len(set(perturbations)) != len(perturbations):
        raise InputError("a perturbation is listed twice.")
    return field, {name: str(value) for name, value in context.items()}


def _expression(request: SampleRequest) -> Any:
    """CSC float64 (n, G): log1p of drawn counts scaled to TARGET_SUM."""
    drawn: Any = request.anndata(silent).X
    cells = drawn.astype(np.float64)
    library = np.maximum(np.asarray(cells.sum(1)).ravel(), 1.0)
    cells.data = np.log1p(cells.data * np.repeat(TARGET_SUM / library, np.diff(cells.indptr)))
    return scipy.sparse.csc_matrix(cells)


def _mean(cells: Any) -> np.ndarray:
    return np.asarray(cells.mean(0)).ravel()


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _de_table(name: str, cells: Any, control: Any, genes: Sequence[str]) -> pd.DataFrame:
    from scipy.stats import false_discovery_control, mannwhitneyu

    expressed = np.flatnonzero(np.diff(cells.indptr) + np.diff(control.indptr))
    p = np.ones(len(expressed))
    for first in range(0, len(expressed), _GENES_TOGETHER):
        some = expressed[first : first + _GENES_TOGETHER]
        test = mannwhitneyu(cells[:, some].toarray(), control[:, some].toarray(), axis=0, method="asymptotic")
        p[first : first + len(some)] = np.nan_to_num(test.pvalue, nan=1.0)
    means = [np.asarray(side.expm1().mean(0)).ravel()[expressed] + PSEUDOCOUNT for side in (cells, control)]
    table = pd.DataFrame(
        {
            "perturbation": name,
            "gene": np.array(genes, dtype=object)[expressed],
            "log2_fold_change": np.log2(means[0] / means[1]),
            "p": p,
            "fdr": false_discovery_control(p) if len(p) else p,
        }
    )
    return table.sort_values(["p", "gene"], kind="stable", ignore_index=True)
