"""Which context and perturbation every cell has, real and generated cells named alike."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

CONTROL = "control"
"""Every source's control label, renamed."""
EVERYWHERE = "all"
"""The one context of data without a context column."""
SEPARATOR = " | "
"""Joins the labels of several context columns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Context and perturbation of n cells, as text."""

    context: np.ndarray
    """(n,) labels of the context columns, joined; EVERYWHERE where there is none."""
    perturbation: np.ndarray
    """(n,) perturbation label, CONTROL for controls and in data without a perturbation."""

    def __len__(self) -> int:
        return len(self.context)

    def take(self, index: np.ndarray) -> "Labels":
        return Labels(context=self.context[index], perturbation=self.perturbation[index])

    def members(self) -> dict[tuple[str, str], np.ndarray]:
        """(context, perturbation) -> positions of its cells, sorted by name."""
        pairs = np.char.add(np.char.add(self.context.astype(str), "\x1f"), self.perturbation.astype(str))
        keys, inverse = np.unique(pairs, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(inverse, minlength=len(keys)))[:-1]) if len(keys) else []
        return {(key.split("\x1f")[0], key.split("\x1f")[1]): part for key, part in zip(keys, parts, strict=True)}

    def contexts(self) -> Iterator[str]:
        return iter(sorted(set(self.context.tolist())))


def labels_of(obs: Any, columns: Any) -> Labels | None:
    """Labels of the cells of an obs table, or None when a condition column of the store is not among its columns."""
    wanted = [*columns.context, *([columns.perturbation] if columns.perturbation else [])]
    if any(name not in obs.columns for name in wanted):
        return None
    context = np.full(len(obs), EVERYWHERE, dtype=object)
    for i, name in enumerate(columns.context):
        values = obs[name].astype(str).to_numpy(dtype=object)
        context = values if i == 0 else context + SEPARATOR + values
    perturbation = np.full(len(obs), CONTROL, dtype=object)
    if columns.perturbation:
        perturbation = obs[columns.perturbation].astype(str).to_numpy(dtype=object)
        perturbation = np.where(np.isin(perturbation, list(columns.control)), CONTROL, perturbation)
    return Labels(context=context.astype(str), perturbation=perturbation.astype(str))


def labels_of_contexts(obs: Any, columns: Any) -> dict[str, tuple[str, ...]]:
    """Context as `Labels` name it -> its label in each context column."""
    rows = obs[list(columns.context)].astype(str).drop_duplicates().itertuples(index=False, name=None)
    return {SEPARATOR.join(row): tuple(row) for row in rows} if columns.context else {}


def matched(
    real: Labels, generated: Labels | None, n_generated: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of real and of generated cells, equally many and, where labels are known, of the same composition.

    Of every condition as many cells are taken as the smaller side has; at most `most` in all, shuffled alike.
    """
    if generated is None:
        n = min(len(real), n_generated, most)
        return rng.permutation(len(real))[:n], rng.permutation(n_generated)[:n]
    left, right = real.members(), generated.members()
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for key in sorted(left.keys() & right.keys()):
        n = min(len(left[key]), len(right[key]))
        pairs.append((rng.permutation(left[key])[:n], rng.permutation(right[key])[:n]))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = rng.permutation(sum(len(a) for a, _ in pairs))[:most]
    return np.concatenate([a for a, _ in pairs])[order], np.concatenate([b for _, b in pairs])[order]
