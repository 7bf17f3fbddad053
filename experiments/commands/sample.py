"""`lingshu sample RUN ...`: draw cells for a table of conditions, for a split's held-out conditions, or for one."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse, take_prefixed
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, Place, runs_arguments
from experiments.commands.train import join_processes
from experiments.commands.writing import is_leader, write
from experiments.progress import StageProgress
from experiments.simulation.output import check_out
from experiments.text_table import read_text_table
from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.parallel.config import DistributedConfig

if TYPE_CHECKING:
    import pandas

    from experiments.load import LoadedRun
    from experiments.prior import Prior
    from experiments.simulation.request import SampleRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Options of `lingshu sample`. Ask for cells by --conditions, by --split, or by --condition.FIELD VALUE --n N."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, an alias, or `latest`."""
    conditions: pathlib.Path | None = None
    """csv with a column per condition field, and n_cells. Numbers may be empty, or have no column: left out."""
    split: Literal["val", "test"] | None = None
    """The conditions of this part of the run's split; numbers are left out, or --condition.NUMBER VALUE for all."""
    n: str | None = None
    """Cells per condition: a number, or `match` for as many as the split has (with --split)."""
    out: pathlib.Path | None = None
    """The h5ad file, or a folder X.zarr or X.store; an h5ad in the run's samples folder where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    store: str | None = None
    """The store of --split and --prior; the run's own where not given."""
    step: int | None = None
    """Which checkpoint; the newest where not given."""
    unseen: Literal["error", "features", "null"] = "error"
    """What to do with a perturbation without training cells."""
    prior: str = "none"
    """Genes told before the others are drawn: none; expressed or paper (what the perturbation turns down in training
    cells of other contexts); or a csv with gene, value and any condition fields."""
    seed: int = 0
    """Same seed, same cells."""
    distributed: DistributedConfig = DistributedConfig()
    """Several processes that share the job and the folder of --out."""
    sampler: SamplerConfig
    """How cells are drawn."""


_ONE_WAY = "ask by one of --conditions, --split and --condition.FIELD, not by several."


def run(arguments: Sequence[str]) -> int:
    """Draw the cells and write them."""
    condition, rest = take_prefixed(arguments, "condition")
    sampler = default_sampler(rest)
    options: Sample = parse(
        Sample,
        rest,
        prog="lingshu sample",
        description="Draw cells from a run.",
        default=Sample(run=tyro.MISSING, sampler=sampler),
    )
    _check_request(options, condition)
    prior = _prior(options.prior)
    join_processes(options.distributed)

    from experiments.commands.recording import note_sample, recording
    from experiments.load import load_run
    from experiments.simulation.request import SampleRequest

    loaded = load_run(options.run, runs=options.runs, step=options.step)
    table = _conditions(options, condition, loaded)
    with recording(loaded.folder), StageProgress() as progress:
        request = SampleRequest.make(
            loaded, table, options.sampler, options.seed, options.unseen, prior, options.store, progress
        )
        name = request_name(options.split, request)
        out = options.out or loaded.folder.samples / f"{name}.h5ad"
        write(request, out, progress, said=_said(request) if is_leader() else [])
        if is_leader():
            note_sample(request, out, name)
    if options.split and is_leader():
        print_next(["evaluate", loaded.folder.id, "--samples", out, *runs_arguments(options.runs)])
    return 0


def request_name(part: str | None, request: "SampleRequest") -> str:
    """What a request's cells are called where --out does not say it: the same request, the same name."""
    return f"{part or 'cells'}-{request.run.step}-{request.hash[:6]}"


def _said(request: "SampleRequest") -> list[str]:
    """A line on injected genes, and one on perturbations without training cells, where there are any."""
    from experiments.load import warn
    from experiments.prior import NoPrior

    effects = request.unseen_effects
    if effects is not None and effects.warning:
        warn(effects.warning)
    injected = [] if isinstance(request.injection.prior, NoPrior) else [str(request.injection)]
    return injected + ([] if effects is None else [str(effects)])


def _prior(text: str) -> "Prior":
    from experiments.prior import parse_prior

    return parse_prior(text)


def default_sampler(arguments: Sequence[str]) -> SamplerConfig:
    """The sampler of the run's experiment: what the options of the command line change."""
    import argparse

    from experiments.runs import find_run
    from experiments.storage import folder_at

    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("run", nargs="?")
    early.add_argument("--runs", default=DEFAULT_RUNS)
    known, _ = early.parse_known_args(list(arguments))
    if known.run is None or {"-h", "--help"} & set(arguments):
        return SamplerConfig()
    return find_run(known.run, folder_at(known.runs)).experiment().sampler


def _check_request(options: Sample, condition: dict[str, str]) -> None:
    asked = [options.conditions is not None, options.split is not None, bool(condition)]
    if sum(asked) > 1 and options.conditions is not None:
        raise InputError(_ONE_WAY)
    check_number(options.n)
    if options.out is not None:
        check_out(options.out, options.conditions, pathlib.Path(options.prior))
    if options.conditions is not None and options.n is not None:
        raise InputError("the table's n_cells column says how many cells to draw; leave --n out.")
    if options.conditions is None and options.split is None and options.n in (None, "match"):
        raise InputError("say how many cells: --n 100 (with --condition.FIELD VALUE), or --split test.")


def check_number(n: str | None) -> None:
    """Require a number of cells, or `match`.

    Raises:
        InputError: it is neither.
    """
    if n is not None and n != "match" and not (n.isdecimal() and int(n) > 0):
        raise InputError(f"--n must be a number >= 1, or `match` with --split; got {n!r}.")


def _conditions(options: Sample, condition: dict[str, str], loaded: "LoadedRun") -> "pandas.DataFrame":
    import pandas as pd

    if options.conditions is not None:
        if not options.conditions.is_file():
            raise InputError(
                f"{options.conditions} does not exist. Pass a csv file with the columns of the conditions."
            )
        return read_text_table(options.conditions)
    if options.split is not None:
        if set(condition) - {field.name for field in loaded.plan.vocabulary.numbers}:
            raise InputError(f"{_ONE_WAY} Only numbers can be given beside --split.")
        return split_conditions(loaded, options.split, options.n, options.store).assign(**condition)
    return pd.DataFrame([{**condition, "n_cells": options.n}])


def split_conditions(
    loaded: "LoadedRun", part: str, n: str | None, store_path: str | pathlib.Path | None
) -> "pandas.DataFrame":
    """The conditions of a part of the run's split, without controls, and how many cells of each.

    `n` None: as many as the split has, but 400 where perturbation effects are to be measured.
    """
    import pandas as pd

    from experiments.run_data import run_data

    store, split = run_data(loaded.folder, store_path)
    vocabulary = loaded.plan.vocabulary
    names = [field.name for field in vocabulary.labelled]
    rows = split.rows(part)
    if not names:
        return pd.DataFrame([{"n_cells": int(n) if n and n != "match" else len(rows)}])
    cells = store.obs[names].iloc[rows].astype(str)
    if vocabulary.perturbation is not None:
        cells = cells[~cells[vocabulary.perturbation.name].map(vocabulary.perturbation.is_control)]
        n = n or "400"
    table = cells.groupby(names, observed=True).size().rename("n_cells").reset_index()
    if not len(table):
        raise InputError(f"the split has no {part} cells to draw conditions from.")
    return table if n in (None, "match") else table.assign(n_cells=int(n))
