"""The model and every baseline through the field's evaluator: the paper's seven columns, and the six of VCC 2026.

Score for score, prediction and truth are on one depth, in one context, against disjoint halves of its held-out
controls. Columns on pseudobulks see every generated cell, columns on differential expression no more than the truth
has: a Mann-Whitney test finds more genes in more cells.

n cells, P perturbations, G genes
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.progress import Progress, silent
from experiments.evaluation.baselines import Baseline, SampledMeanEffect, fit_baselines
from experiments.evaluation.cell_eval import (
    LOWER_IS_BETTER,
    V1_DE,
    V1_PSEUDOBULK,
    VCC_DE,
    VCC_EXPRESSION,
    CellEval,
    Found,
    Side,
    missing_packages,
    versions,
)
from experiments.evaluation.cells import Cells
from experiments.evaluation.challenge_scores import Relative, Tally, average_score, clipped
from experiments.evaluation.effects import MODEL, Generated
from experiments.evaluation.held_out import HeldOut
from experiments.evaluation.labels import CONTROL
from experiments.evaluation.results import ChallengeTable
from experiments.evaluation.scores import PDS_CANDIDATES
from experiments.evaluation.training_effects import TrainingEffects

BASELINE = "mean_effect (sampled)"
"""The perturbation-mean baseline as cells: what scores 0 on the average."""
PSEUDOBULK_CELLS = 400
"""Cells of a condition from which on a sampled prediction's MAE is not decided by its own sampling noise."""
_RANKED = ("PDS", "PDS (cosine)")
_V1, _VCC = {**V1_DE, **V1_PSEUDOBULK}, {**VCC_EXPRESSION, **VCC_DE}
V1_COLUMNS = ("DES", "PDS", "MAE", "Spearman #DEG", "Spearman LFC", "AUPRC", "Pearson-delta")
VCC_COLUMNS = tuple(_VCC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a user can say about these metrics."""

    target_genes: bool = True
    """Whether a perturbation named like a gene is that gene; False for cytokines and drugs."""
    cache: Path | None = None
    """Folder where the real sides' tables are kept for the next evaluation."""


def challenge_tables(
    held_out: HeldOut,
    training: TrainingEffects,
    generated: Generated,
    settings: Challenge,
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[ChallengeTable, ...]:
    """Score the generated cells and all baselines; () without the evaluator or without conditions to score.

    Args:
        held_out: the real side.
        training: what baselines are fitted on.
        generated: the generated cells.
        settings: the user's.
        seed: of draws and bootstraps.
        progress: told after each method of each context.
    """
    if missing_packages():
        return ()
    baselines = [baseline for baseline in fit_baselines(training) if not isinstance(baseline, SampledMeanEffect)]
    v1: dict[str, Tally] = {}
    vcc: dict[str, Tally] = {}
    contexts = [context for context in held_out.contexts if _conditions(held_out, generated, context)]
    names = [MODEL, *(baseline.name for baseline in baselines)]
    for done, context in enumerate(contexts):
        bench = _Bench.of(held_out, generated, context, training.genes, settings)
        for step, prediction in enumerate(_predictions(bench, generated, baselines, seed)):
            progress("challenge metrics", done * len(names) + min(step, len(names) - 1), len(contexts) * len(names))
            bench.score(prediction, v1, vcc)
    progress("challenge metrics", len(contexts) * len(names), len(contexts) * len(names))
    if not contexts:
        return ()
    real = int(np.median([len(held_out.cells[key]) for key in held_out.cells]))
    rng = np.random.default_rng(seed)
    return (
        _table("v1", v1, V1_COLUMNS, tuple(V1_DE), clipped, real, rng),
        _table("vcc2026", vcc, VCC_COLUMNS, tuple(VCC_DE), _as_the_challenge, real, rng),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Prediction:
    """One method in one context: cells per perturbation, or pseudobulks alone."""

    name: str
    cells: dict[str, Cells]
    pseudobulks: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bench:
    """One context's real side, and the evaluator set up for its genes."""

    context: str
    real: dict[str, Cells]
    truth_controls: Cells
    prediction_controls: Cells
    target_sum: float
    genes: np.ndarray
    """(G,) bool: measured by every source of the context."""
    v1: CellEval
    vcc: CellEval

    @classmethod
    def of(
        cls,
        held_out: HeldOut,
        generated: Generated,
        context: str,
        panel: tuple[str, ...],
        settings: Challenge,
    ) -> "_Bench":
        side = held_out.contexts[context]
        real = {name: held_out.cells[context, name] for name in _conditions(held_out, generated, context)}
        everyone = [*real.values(), side.truth_controls, side.prediction_controls]
        genes = np.logical_and.reduce([cells.measured[np.unique(cells.source)].all(0) for cells in everyone])
        names = tuple(np.array(panel)[genes].tolist())
        targets = {name: name if settings.target_genes and name in names else None for name in real}
        folders = [None if settings.cache is None else settings.cache / preset for preset in ("v1", "vcc2026")]
        return cls(
            context=context,
            real=real,
            truth_controls=side.truth_controls,
            prediction_controls=side.prediction_controls,
            target_sum=held_out.target_sum,
            genes=genes,
            v1=CellEval(genes=names, targets=targets, cache=folders[0]),
            vcc=CellEval(genes=names, targets=targets, cache=folders[1]),
        )

    def score(self, prediction: _Prediction, v1: dict[str, Tally], vcc: dict[str, Tally]) -> None:
        """Fill both tallies with one method's scores."""
        names = sorted(prediction.pseudobulks)
        if not names:
            return
        tally = v1.setdefault(prediction.name, Tally(name=prediction.name))
        tally.conditions += len(names)
        found = self.v1.v1(V1_PSEUDOBULK, self._pseudobulks(prediction), self._real_pseudobulks(names))
        tally.add(self.context, self._ranked(found, names))
        if not prediction.cells:
            return
        other = vcc.setdefault(prediction.name, Tally(name=prediction.name))
        other.conditions += len(names)
        few = {name: _few(prediction.cells[name], len(self.real[name])) for name in names}
        for each in (tally, other):
            each.cells += [len(prediction.cells[name]) for name in names]
            each.de_cells += [len(cells) for cells in few.values()]
        real = {name: self.real[name] for name in names}
        sides = (few, self.prediction_controls), (real, self.truth_controls)
        tally.add(self.context, self.v1.v1(V1_DE, *(self._cells(*side, log=True) for side in sides)))
        other.add(self.context, self.vcc.vcc2026(VCC_DE, *(self._cells(*side, log=False) for side in sides)))
        sides = (prediction.cells, self.prediction_controls), (real, self.truth_controls)
        found = self.vcc.vcc2026(VCC_EXPRESSION, *(self._cells(*side, log=False) for side in sides))
        other.add(self.context, self._ranked(found, names))

    def _ranked(self, found: Found, names: list[str]) -> Found:
        """Without discrimination among too few candidates: with one it is 1 for every method."""
        if len(names) >= PDS_CANDIDATES:
            return found
        return Found(
            by_perturbation={column: values for column, values in found.by_perturbation.items()}
            | {column: {} for column in _RANKED if column in found.by_perturbation},
            whole=found.whole | {column: float("nan") for column in _RANKED if column in found.whole},
        )

    def _pseudobulks(self, prediction: _Prediction) -> Side:
        """One row per perturbation: its mean says all that these columns look at."""
        control = self.prediction_controls.pseudobulk(self.target_sum)
        rows = {name: np.where(np.isfinite(row), row, control) for name, row in prediction.pseudobulks.items()}
        return self._rows(rows, control)

    def _real_pseudobulks(self, names: list[str]) -> Side:
        rows = {name: self.real[name].pseudobulk(self.target_sum) for name in names}
        return self._rows(rows, self.truth_controls.pseudobulk(self.target_sum))

    def _rows(self, rows: dict[str, np.ndarray], control: np.ndarray) -> Side:
        names = [*sorted(rows), CONTROL]
        values = np.stack([(rows | {CONTROL: control})[name][self.genes] for name in names])
        return Side(values=values.astype(np.float32), labels=np.array(names))

    def _cells(self, cells: dict[str, Cells], controls: Cells, *, log: bool) -> Side:
        parts = {**{name: cells[name] for name in sorted(cells)}, CONTROL: controls}
        blocks: list[Any] = []
        for part in parts.values():
            values = part.log_expression(self.target_sum) if log else part.counts
            blocks.append(scipy.sparse.csr_matrix(values, dtype=np.float32)[:, self.genes])
        labels = np.concatenate([np.full(len(part), name, dtype=object) for name, part in parts.items()])
        return Side(values=scipy.sparse.vstack(blocks, format="csr"), labels=labels)


def _conditions(held_out: HeldOut, generated: Generated, context: str) -> list[str]:
    return sorted(name for where, name in held_out.cells if where == context and generated.n((context, name)))


def _predictions(bench: _Bench, generated: Generated, baselines: list[Baseline], seed: int) -> Iterator[_Prediction]:
    """The model, every baseline as constants, and every baseline as as many cells as the model gave."""
    context = bench.context
    cells = {name: generated.take((context, name)) for name in bench.real}
    yield _of_cells(MODEL, cells, bench.target_sum)
    for number, baseline in enumerate(baselines):
        rng = np.random.default_rng((seed, number))
        drawn = {name: baseline.sample(context, name, len(cells[name]), rng) for name in bench.real}
        known = {name: found for name, found in drawn.items() if found is not None}
        constant = baseline.name != "no_change"
        yield _of_cells(f"{baseline.name} (sampled)" if constant else baseline.name, known, bench.target_sum)
        if constant:
            means = {name: baseline.predict(context, name, 1, rng) for name in bench.real}
            known_means = {name: found for name, found in means.items() if found is not None}
            yield _Prediction(name=baseline.name, cells={}, pseudobulks=known_means)


def _of_cells(name: str, cells: dict[str, Cells], target_sum: float) -> _Prediction:
    means = {perturbation: found.pseudobulk(target_sum) for perturbation, found in cells.items()}
    return _Prediction(name=name, cells=cells, pseudobulks=means)


def _few(cells: Cells, n: int) -> Cells:
    return cells if len(cells) <= n else cells.take(np.arange(n))


def _as_the_challenge(column: str, values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Each metric by the evaluator's own rule; NaN where the baseline leaves none."""
    from cell_eval2.catalog import CATALOG
    from cell_eval2.scoring import is_degenerate, score_one

    policy = CATALOG[_VCC[column]].scoring
    pairs = zip(values.tolist(), baseline.tolist(), strict=True)
    return np.array([float("nan") if is_degenerate(b, policy) else score_one(u, b, policy) for u, b in pairs])


def _table(
    preset: str,
    tallies: dict[str, Tally],
    columns: tuple[str, ...],
    de_columns: tuple[str, ...],
    relative: Relative,
    real_cells: int,
    rng: np.random.Generator,
) -> ChallengeTable:
    rows = {name: tally.row(columns, rng) for name, tally in tallies.items()}
    reference = rows[BASELINE].metrics if BASELINE in rows else {}
    averaged = tuple(name for name in columns if name in reference and reference[name].value is not None)
    finished = []
    for name, row in rows.items():
        score = average_score(tallies[name], tallies[BASELINE], averaged, relative, rng) if averaged else row.average
        finished.append(dataclasses.replace(row, average=score))
    return ChallengeTable(
        preset=preset,
        rows=tuple(finished),
        columns=columns,
        de_columns=de_columns,
        lower=tuple(name for name in columns if name in LOWER_IS_BETTER),
        averaged=averaged,
        baseline=BASELINE,
        real_cells=real_cells,
        versions=versions(),
    )
