"""Splits that hold out contexts: all their perturbations, or a share of them (a donor with a few known responses)."""

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.held_out import HeldOut, whole_conditions
from data_pipelines.split_parts import TEST, TRAIN, VAL, Assignment, Conditions, perturbed_conditions
from lingshu_jax.vocabulary import nearest

if TYPE_CHECKING:
    from data_pipelines.store import CellStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutContexts(HeldOut):
    """Contexts whose perturbed cells were never seen, or only for some perturbations.

    With `share` = 1 nothing perturbed of them is in training; with less, so large a share of each one's perturbations
    is held out: the paper's cytokine split holds out 70 % of the conditions of 4 donors.
    """

    field: str | None = None
    """Context column whose labels are held out; None takes the first."""
    contexts: tuple[str, ...] = ()
    """Exactly these for test. Empty: drawn."""
    share: float = 1.0
    """Of every held-out context's perturbations, above 0, at most 1."""
    controls: Literal["train", "test"] = "train"
    """Where control cells of held-out contexts go. 'train': as in other contexts, a few of them into test and val."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1 or self.controls not in ("train", "test"):
            raise InputError(f"share must lie in 0..1 and controls be 'train' or 'test', got {self}.")

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        conditions = perturbed_conditions(store)
        place = _field(self.field, conditions, store)
        label = np.array([labels[place] for labels in conditions.labels])
        known = sorted(set(label[conditions.named()].tolist()))
        test = self._test(known, store, rng)
        left = [name for name in known if name not in test]
        n_val = min(self.n_val(len(test)), len(left) - 1)
        val = rng.permutation(left)[: max(0, n_val)].tolist()
        part = np.full(len(conditions.labels), TRAIN)
        for names, where in ((test, TEST), (val, VAL)):
            for name in names:
                candidates = rng.permutation(np.flatnonzero((label == name) & ~conditions.control))
                part[candidates[: max(1, round(self.share * len(candidates)))]] = where
        assignment = whole_conditions(self, conditions, part, rng)
        if self.controls == "test":
            for names, where in ((test, TEST), (val, VAL)):
                theirs = np.flatnonzero(np.isin(label, names) & conditions.control)
                assignment.part[np.isin(conditions.of_cell, theirs)] = where
        return assignment

    def _test(self, known: list[str], store: "CellStore", rng: np.random.Generator) -> list[str]:
        for name in self.contexts:
            if name not in known:
                raise InputError(
                    f"{store.path} has no perturbed context {name!r} (nearest: {nearest(name, known)}). "
                    "Name contexts as they stand in the store."
                )
        wanted = max(1, round(self.test * len(known)))
        if len(known) <= max(wanted, len(self.contexts)):
            raise InputError(
                f"{store.path} has {len(known)} perturbed contexts: none would be left for training. "
                "Hold out fewer, or split combinations."
            )
        return list(self.contexts) or rng.permutation(known)[:wanted].tolist()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedConditions(HeldOut):
    """Exactly these conditions, by label of one context column, as STATE's TOML files list them (`split_toml`)."""

    field: str | None = None
    """The context column; None takes the first."""
    zeroshot: tuple[tuple[str, str], ...] = ()
    """(context, 'val' or 'test'): all its perturbations."""
    fewshot: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(context, 'val' or 'test', perturbations)."""

    def assign(self, store: "CellStore", rng: np.random.Generator) -> Assignment:
        conditions = perturbed_conditions(store)
        place = _field(self.field, conditions, store)
        label = np.array([labels[place] for labels in conditions.labels])
        perturbation = np.array([labels[-1] for labels in conditions.labels])
        part = np.full(len(conditions.labels), TRAIN)
        for context, where, wanted in (*((*pair, None) for pair in self.zeroshot), *self.fewshot):
            theirs = (label == context) & ~conditions.control
            if not theirs.any():
                raise InputError(
                    f"{store.path} has no perturbed cells with {conditions.fields[place]} {context!r} "
                    f"(nearest: {nearest(context, sorted(set(label.tolist())))})."
                )
            for name in wanted or ():
                if name not in set(perturbation[theirs].tolist()):
                    there = sorted(set(perturbation[theirs].tolist()))
                    raise InputError(
                        f"{store.path} has no perturbation {name!r} in {context!r} (nearest: {nearest(name, there)})."
                    )
            chosen = theirs if wanted is None else theirs & np.isin(perturbation, wanted)
            part[chosen] = TEST if where == "test" else VAL
        return whole_conditions(self, conditions, part, rng)


def _field(name: str | None, conditions: Conditions, store: "CellStore") -> int:
    """Place of a context column among the condition fields."""
    contexts = conditions.fields[:-1]
    if not contexts:
        raise InputError(f"{store.path} has no context columns to hold out. Ingest again with --columns.context.")
    if name is not None and name not in contexts:
        raise InputError(f"{store.path} has no context column {name!r} (nearest: {nearest(name, contexts)}).")
    return 0 if name is None else contexts.index(name)
