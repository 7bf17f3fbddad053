"""Splits that hold out whole conditions: unseen pairs of context and perturbation, or unseen perturbations."""

import collections
import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.split_parts import (
    TEST,
    TRAIN,
    VAL,
    Assignment,
    Conditions,
    perturbed_conditions,
    split_controls,
)
from lingshu_jax.vocabulary import nearest

if TYPE_CHECKING:
    from data_pipelines.store import CellStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What all kinds share: how much is held out, and what may be."""

    seed: int = 0
    test: float = 0.2
    """Share of the candidates held out for test, 0..1; at least one."""
    val: float = 1 / 3
    """Held out for validation, relative to test; at least one where possible."""
    min_cells: int = 30
    """Fewest cells that test candidates have: fewer cannot be scored."""
    control_test: float = 0.2
    """Share of each context's control cells that goes into test, 0..1."""
    control_val: float = 0.1
    """Share of each context's control cells that goes into val, 0..1."""
    controls_of: Literal["all", "held out"] = "all"
    """Contexts whose controls are shared out: all, or those of which a condition is held out; the others' are trained
    on."""

    def __post_init__(self) -> None:
        if not (0 < self.test < 1 and self.val >= 0 and 0 <= self.control_test + self.control_val < 1):
            raise InputError(f"split shares must lie in 0..1 and leave cells for training, got {self}.")

    def n_val(self, n_test: int) -> int:
        """How many conditions to hold out for validation."""
        return max(1, round(self.val * n_test)) if self.val else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutCombinations(HeldOut):
    """Known perturbations in known contexts, never seen together.

    Every held-out perturbation keeps another context in training, every context keeps training cells.
    """

    combinations: tuple[tuple[str, ...], ...] = ()
    """Exactly these for test: labels in the order of the condition fields. Empty: drawn, spread over the contexts."""

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        conditions = perturbed_conditions(store)
        part = np.full(len(conditions.labels), TRAIN)
        test = self._explicit(conditions, store) if self.combinations else None
        if test is None:
            wanted = max(1, round(self.test * conditions.named().sum()))
            candidates = np.flatnonzero(conditions.named() & (conditions.cells >= self.min_cells))
            test = _choose(conditions, part, candidates, wanted, TEST, rng)
            if not test:
                raise InputError(
                    f"{store.path}: no combination can be held out: none with >= {self.min_cells} cells whose "
                    "perturbation also occurs in another context. Split random cells or held-out perturbations."
                )
        part[test] = TEST
        left = np.flatnonzero(conditions.named() & (part == TRAIN))
        _choose(conditions, part, left, self.n_val(len(test)), VAL, rng)
        return whole_conditions(self, conditions, part, rng)

    def _explicit(self, conditions: Conditions, store: "CellStore") -> list[int]:
        known = {"|".join(labels): i for i, labels in enumerate(conditions.labels) if not conditions.control[i]}
        chosen = []
        for combination in self.combinations:
            name = "|".join(combination)
            if name not in known:
                raise InputError(
                    f"{store.path} has no perturbed combination {name!r} of {', '.join(conditions.fields)} "
                    f"(nearest: {nearest(name, known)}). Give one label per field, in that order."
                )
            chosen.append(known[name])
        return chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutPerturbations(HeldOut):
    """Perturbations never seen in any context; a set 'A+B' goes where its first held-out member goes."""

    perturbations: tuple[str, ...] = ()
    """Exactly these for test. Empty: drawn."""

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        conditions = perturbed_conditions(store)
        cells: collections.Counter[str] = collections.Counter()
        for i in np.flatnonzero(conditions.named()):
            cells[conditions.perturbation(i)] += int(conditions.cells[i])
        # Sets are no candidates by themselves: holding out 'A+B' alone would leave A and B in training.
        single = [label for label in sorted(cells) if not _members(label) & (cells.keys() - {label})]
        test = self._test(single, cells, store, rng)
        left = [label for label in single if label not in test]
        n_val = min(self.n_val(len(test)), len(left) - 1)
        val = set(rng.permutation(left)[: max(0, n_val)].tolist())
        part = np.full(len(conditions.labels), TRAIN)
        for i in np.flatnonzero(~conditions.control):
            members = _members(conditions.perturbation(i)) | {conditions.perturbation(i)}
            part[i] = TEST if members & set(test) else VAL if members & val else TRAIN
        return whole_conditions(self, conditions, part, rng)

    def _test(
        self, single: list[str], cells: dict[str, int], store: "CellStore", rng: np.random.Generator
    ) -> list[str]:
        for label in self.perturbations:
            if label not in cells:
                raise InputError(
                    f"{store.path} has no perturbation {label!r} (nearest: {nearest(label, cells)}). "
                    "Name perturbations as they stand in the store."
                )
        if self.perturbations:
            return list(self.perturbations)
        candidates = [label for label in single if cells[label] >= self.min_cells]
        wanted = min(max(1, round(self.test * len(single))), len(single) - 1)
        if not candidates or wanted < 1:
            raise InputError(
                f"{store.path}: of {len(single)} perturbations {len(candidates)} have >= {self.min_cells} cells: "
                "none can be held out. Split random cells."
            )
        return rng.permutation(candidates)[:wanted].tolist()


def _choose(
    conditions: Conditions,
    part: np.ndarray,
    candidates: np.ndarray,
    wanted: int,
    where: np.int8,
    rng: np.random.Generator,
) -> list[int]:
    """Move up to `wanted` candidates from train to `where`, in place, evenly over the contexts."""
    contexts: dict[tuple[str, ...], list[int]] = {}
    for i in rng.permutation(candidates):
        contexts.setdefault(conditions.context(i), []).append(int(i))
    chosen: list[int] = []
    while contexts and len(chosen) < wanted:
        for context in rng.permutation(len(contexts)):
            queue = list(contexts.values())[context]
            while queue and len(chosen) < wanted:
                i = queue.pop()
                if _may_leave(conditions, part, i):
                    part[i] = where
                    chosen.append(i)
                    break
        contexts = {name: queue for name, queue in contexts.items() if queue}
    return chosen


def _may_leave(conditions: Conditions, part: np.ndarray, i: int | np.intp) -> bool:
    """Whether training keeps the perturbation in another context, and the context with another label."""
    others = [j for j in np.flatnonzero(part == TRAIN) if j != i]
    return any(conditions.perturbation(j) == conditions.perturbation(i) for j in others) and any(
        conditions.context(j) == conditions.context(i) for j in others
    )


def whole_conditions(kind: HeldOut, conditions: Conditions, part: np.ndarray, rng: np.random.Generator) -> Assignment:
    """Cells go where their condition goes; controls are split within every context."""
    cells = part[conditions.of_cell]
    held_out = np.flatnonzero(part != TRAIN)
    theirs = {conditions.context(i) for i in held_out}
    shared = {c for c in map(conditions.context, range(len(part))) if kind.controls_of == "all" or c in theirs}
    split_controls(conditions, cells, kind.control_test, kind.control_val, rng, shared)
    return Assignment(cells, tuple(conditions.describe(i, part[i]) for i in held_out))


def _members(label: str) -> set[str]:
    """Members of a perturbation set 'A+B'; of a single one, itself."""
    return set(filter(None, label.split("+")))
