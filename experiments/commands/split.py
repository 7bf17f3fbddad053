"""`lingshu split STORE`: which cells are trained on, watched, and judged on."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.next_command import print_next

if TYPE_CHECKING:
    from data_pipelines import Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options of `lingshu split`."""

    store: tyro.conf.Positional[str]
    """The cell store."""
    kind: Literal["cells", "combinations", "perturbations"]
    """Held out: random cells, combinations of context and perturbation, or whole perturbations."""
    name: str
    """Name of the split; `lingshu train --data.split NAME` uses it."""
    seed: int = 0
    """Seed of the choice."""
    test: float = 0.2
    """Share of cells, combinations or perturbations held out for the test."""


def run(arguments: Sequence[str]) -> int:
    """Make the split and print what it holds out."""
    options = parse(SplitOptions, arguments, prog="lingshu split", description="Choose training and test cells.")

    if options.seed < 0 or not 0 < len(options.name) <= 80:
        raise InputError("--seed must be >= 0, and --name 1 to 80 characters.")

    from data_pipelines import (
        CellStore,
        HeldOutCombinations,
        HeldOutPerturbations,
        RandomCells,
        load_statistics,
        make_split,
    )

    kinds = {"cells": RandomCells, "combinations": HeldOutCombinations, "perturbations": HeldOutPerturbations}
    store = CellStore.open(options.store)
    split = make_split(store, kinds[options.kind](seed=options.seed, test=options.test), name=options.name)
    load_statistics(store, split)
    print(describe(split))
    experiment = "perturb" if store.columns.perturbation else "cells"
    print_next(["train", experiment, "--store", store.path, "--data.split", split.name])
    return 0


def describe(split: "Split") -> str:
    """The split in a line or two."""
    held_out = [condition for condition in split.held_out if condition["part"] == "test"]
    lines = [
        f"split {split.name!r} ({split.kind}, hash {split.hash}): {len(split.train):,} training, {len(split.val):,} "
        f"validation and {len(split.test):,} test cells"
    ]
    if held_out:
        shown = [" x ".join(v for k, v in condition.items() if k != "part") for condition in held_out[:4]]
        more = f" and {len(held_out) - 4} more" if len(held_out) > 4 else ""
        lines.append(f"held out for the test: {', '.join(shown)}{more}")
    return "\n".join(lines)
