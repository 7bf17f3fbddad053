"""`lingshu split STORE`: which cells are trained on, watched, and judged on."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from data_pipelines.errors import InputError
from data_pipelines.partial import unfinished
from experiments.command_line import parse
from experiments.commands.next_command import print_next

if TYPE_CHECKING:
    from data_pipelines import Split
    from data_pipelines.splits import SplitKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Options of `lingshu split`."""

    store: tyro.conf.Positional[str]
    """The cell store."""
    kind: Literal["cells", "groups", "combinations", "perturbations", "contexts", "toml"] = "cells"
    """Held out: random cells, whole groups of a column, combinations of context and perturbation, whole perturbations,
    contexts, or what a TOML file of STATE lists."""
    name: str
    """Name of the split; `lingshu train --data.split NAME` uses it."""
    seed: int = 0
    """Seed of the choice."""
    test: float = 0.2
    """Share of cells, groups, combinations, perturbations or contexts held out for the test."""
    column: str | None = None
    """For groups: the obs column (batch, guide). For contexts and toml: the context column; the first by default."""
    contexts: str = ""
    """For contexts: exactly these, separated by commas; drawn where not given."""
    share: float = 1.0
    """For contexts: share of each one's perturbations that is held out (0.7 in the paper's cytokine split)."""
    controls: Literal["train", "test"] = "train"
    """For contexts: where their control cells go."""
    toml: pathlib.Path | None = None
    """For toml: the file to read."""
    write_toml: pathlib.Path | None = None
    """Also write the split as a TOML file of STATE."""


def run(arguments: Sequence[str]) -> int:
    """Make the split and print what it holds out."""
    options = parse(SplitOptions, arguments, prog="lingshu split", description="Choose training and test cells.")

    if options.seed < 0 or not 0 < len(options.name) <= 80:
        raise InputError("--seed must be >= 0, and --name 1 to 80 characters.")

    from data_pipelines import CellStore, load_statistics, make_split
    from data_pipelines.split_toml import split_toml
    from data_pipelines.splits import confounded

    store = CellStore.open(options.store)
    if options.write_toml is not None and not options.write_toml.parent.is_dir():
        raise InputError(f"--write-toml {options.write_toml} must name a file in a folder that exists.")
    split = make_split(store, _kind(options), name=options.name)
    if options.write_toml is not None:
        with unfinished(options.write_toml) as partial:
            partial.write_text(split_toml(store, split, field=options.column))
            partial.replace(options.write_toml)
    load_statistics(store, split)
    print(describe(split))
    alone = confounded(store)
    if alone:
        shown = ", ".join(alone[:4]) + (", ..." if len(alone) > 4 else "")
        print(f"warning: {len(alone)} perturbations share no batch with controls, effect and batch are one: {shown}")
    experiment = "perturb" if store.columns.perturbation else "cells"
    print_next(["train", experiment, "--store", store.path, "--data.split", split.name])
    return 0


def _kind(options: SplitOptions) -> "SplitKind":
    from data_pipelines import HeldOutCombinations, HeldOutPerturbations, RandomCells
    from data_pipelines.split_toml import read_split_toml
    from data_pipelines.splits import HeldOutContexts, RandomGroups

    shares = {"seed": options.seed, "test": options.test}
    match options.kind:
        case "groups":
            if options.column is None:
                raise InputError("--kind groups needs the column of the groups: --column batch, for example.")
            return RandomGroups(column=options.column, **shares)
        case "combinations":
            return HeldOutCombinations(**shares)
        case "perturbations":
            return HeldOutPerturbations(**shares)
        case "contexts":
            return HeldOutContexts(
                field=options.column,
                contexts=tuple(filter(None, (name.strip() for name in options.contexts.split(",")))),
                share=options.share,
                controls=options.controls,
                **shares,
            )
        case "toml":
            if options.toml is None:
                raise InputError("--kind toml needs the file: --toml FILE.")
            return read_split_toml(options.toml, field=options.column, seed=options.seed)
    return RandomCells(**shares)


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
