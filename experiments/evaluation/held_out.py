"""The real side of perturbation effects: held-out conditions, disjoint control halves, candidates of PDS."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.evaluation.cells import Cells, stored_cells
from experiments.evaluation.labels import CONTROL, labels_of
from experiments.evaluation.scores import Truth
from experiments.evaluation.training_effects import TrainingEffects

Condition = tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fewest:
    """How many real held-out cells a condition needs to be scored, and not only listed."""

    cells: int = 30
    """Of the condition; candidates of PDS need as many."""
    controls: int = 20
    """Of its context's controls, two disjoint halves together."""


FEWEST = Fewest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextSide:
    """One context's controls and candidates."""

    prediction_controls: Cells
    truth_controls: Cells
    candidates: dict[str, np.ndarray]
    """Perturbation -> (G,) real pseudobulk."""
    half_candidates: dict[str, np.ndarray]
    """The same from a random half of each one's cells: what replicate halves are ranked among."""
    ranked: np.ndarray
    """(G,) genes that PDS looks at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Everything real that predictions are compared with."""

    target_sum: float
    cells: dict[Condition, Cells]
    """Held-out cells of the perturbed conditions that can be scored."""
    contexts: dict[str, ContextSide]
    n_real: dict[Condition, int]
    """Held-out cells of every perturbed condition, scored or not."""
    n_controls: dict[str, int]
    """Held-out control cells per context."""
    fewest: Fewest

    def truth(self, condition: Condition) -> Truth:
        """The whole of the condition's held-out cells against the truth's half of the controls."""
        side = self.contexts[condition[0]]
        control = side.truth_controls.pseudobulk(self.target_sum)
        return self._truth(condition, side.candidates[condition[1]], control, side.candidates)

    def replicates(self, condition: Condition, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Truth]:
        """Two disjoint halves of the real cells, and new halves of the controls: (prediction, its control, truth)."""
        side, cells = self.contexts[condition[0]], self.cells[condition]
        first, second = _halves(len(cells), rng)
        n_first = len(side.prediction_controls)
        mine, theirs = _halves(n_first + len(side.truth_controls), rng)
        mine, theirs = self._controls(side, mine, n_first), self._controls(side, theirs, n_first)
        other = cells.take(second).pseudobulk(self.target_sum)
        return (
            cells.take(first).pseudobulk(self.target_sum),
            mine,
            self._truth(condition, other, theirs, side.half_candidates),
        )

    def _truth(
        self, condition: Condition, pseudobulk: np.ndarray, control: np.ndarray, candidates: dict[str, np.ndarray]
    ) -> Truth:
        names = list(candidates)
        rows = [pseudobulk if name == condition[1] else candidates[name] for name in names]
        return Truth(
            pseudobulk=pseudobulk,
            control=control,
            candidates=np.stack(rows),
            own=names.index(condition[1]),
            ranked=self.contexts[condition[0]].ranked,
        )

    def _controls(self, side: ContextSide, index: np.ndarray, n_first: int) -> np.ndarray:
        """Pseudobulk of some of a context's controls, numbered through both of its halves."""
        parts = [
            (side.prediction_controls, index[index < n_first]),
            (side.truth_controls, index[index >= n_first] - n_first),
        ]
        weight = np.array([len(part) for _, part in parts])
        means = np.stack([half.take(part).pseudobulk(self.target_sum) for half, part in parts if len(part)])
        return np.average(means, axis=0, weights=weight[weight > 0])


def read_held_out(
    store: Any,
    split: Any,
    statistics: Any,
    training: TrainingEffects,
    part: str,
    rng: np.random.Generator,
    fewest: Fewest = FEWEST,
) -> HeldOut:
    """Read the held-out cells of one part of a split, context by context."""
    rows = np.asarray(getattr(split, part))
    labels = labels_of(store.obs.iloc[rows], store.columns)
    assert labels is not None  # a store holds its own columns
    members = labels.members()
    n_controls = {context: len(members.get((context, CONTROL), ())) for context in labels.contexts()}
    n_real = {key: len(positions) for key, positions in members.items() if key[1] != CONTROL}
    scored = [key for key, n in n_real.items() if n >= fewest.cells and n_controls[key[0]] >= fewest.controls]
    cells = {key: stored_cells(store, rows[members[key]], statistics.mean) for key in scored}
    contexts = {}
    for context in sorted({key[0] for key in scored}):
        controls = stored_cells(store, rows[members[context, CONTROL]], statistics.mean)
        first, second = _halves(len(controls), rng)
        candidates = _candidates(store, split, statistics, training, cells, context, rng, fewest.cells)
        contexts[context] = ContextSide(
            prediction_controls=controls.take(first),
            truth_controls=controls.take(second),
            candidates={name: whole for name, (whole, _) in candidates.items()},
            half_candidates={name: half for name, (_, half) in candidates.items()},
            ranked=~np.isin(np.array(store.panel.genes), _targets(candidates)),
        )
    return HeldOut(
        target_sum=training.target_sum,
        cells=cells,
        contexts=contexts,
        n_real=n_real,
        n_controls=n_controls,
        fewest=fewest,
    )


def _candidates(
    store: Any,
    split: Any,
    statistics: Any,
    training: TrainingEffects,
    cells: dict[Condition, Cells],
    context: str,
    rng: np.random.Generator,
    fewest: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Held-out cells where the perturbation is scored; else its training cells, no more than a scored one has.

    A reference of fewer cells lies farther from everything by noise alone, so all get about the same number.

    Returns:
        Perturbation -> pseudobulk (G,) of these cells, and of a random half of them.
    """
    own = {key[1]: held for key, held in cells.items() if key[0] == context}
    most = int(np.median([len(held) for held in own.values()]))
    rows = np.asarray(split.train)
    labels = labels_of(store.obs.iloc[rows], store.columns)
    assert labels is not None
    for (where, perturbation), positions in labels.members().items():
        if where == context and perturbation != CONTROL and perturbation not in own and len(positions) >= fewest:
            kept = np.sort(rng.permutation(positions)[:most])
            own[perturbation] = stored_cells(store, rows[kept], statistics.mean)
    target = training.target_sum
    return {
        name: (held.pseudobulk(target), held.take(_halves(len(held), rng)[0]).pseudobulk(target))
        for name, held in sorted(own.items())
    }


def _targets(candidates: Iterable[str]) -> list[str]:
    """Genes that perturbations are named after; a set 'A+B' names two."""
    return sorted({part for name in candidates for part in (name, *name.split("+"))})


def _halves(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def reason_not_scored(condition: Condition, held_out: HeldOut, n_generated: int) -> str:
    """Why a condition is listed and not scored; '' when it is scored."""
    fewest = held_out.fewest
    if held_out.n_real.get(condition, 0) < fewest.cells:
        return f"fewer than {fewest.cells} real held-out cells"
    if held_out.n_controls.get(condition[0], 0) < fewest.controls:
        return f"fewer than {fewest.controls} held-out controls in this context"
    if not n_generated:
        return "no generated cells"
    return ""
