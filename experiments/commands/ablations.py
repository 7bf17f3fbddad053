"""`lingshu ablations --data FOLDER`: what each setting is worth on real cells; what is done already is skipped."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.command_line import parse, take_prefixed
from experiments.commands.options import DEFAULT_RUNS, Place
from experiments.early_stop import START_AGAIN

if TYPE_CHECKING:
    from experiments.ablations.study import Study
    from experiments.real_cells.plan import Plan

BAD_INPUT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablations:
    """Options of `lingshu ablations`. `--training.*` holds for all trainings: short tries."""

    data: pathlib.Path | None = None
    """Folder of the data sets' h5ad files."""
    only: tuple[str, ...] = ()
    """Names of studies; all of them where not given."""
    seeds: int = 3
    """Trainings of each variant: the first seed of all variants first."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one; cell stores lie in its folder `stores`."""
    out: Place = pathlib.Path("docs/ablations.md")
    """The page: tables between its markers are written anew from the runs, all else stays."""
    tables: bool = False
    """Run nothing: only write the tables from the runs that are there."""


def run(arguments: Sequence[str]) -> int:
    """Train what is missing, and write the tables after every training."""
    taken, rest = take_prefixed(list(arguments), "training")
    settings = tuple(word for name, value in taken.items() for word in (f"--training.{name}", value))
    options: Ablations = parse(Ablations, rest, prog="lingshu ablations", description="What each setting is worth.")

    from experiments.ablations.studies import chosen_studies
    from experiments.real_cells.page import read_page
    from experiments.real_cells.plan import Plan

    if options.seeds < 1:
        raise InputError(f"--seeds must be >= 1, got {options.seeds}.")
    studies = chosen_studies(options.only)
    read_page(options.out)
    plan = Plan(runs=options.runs, data=options.data, training=settings)
    for study in studies:
        for variant in study.all_variants:  # wrong settings are told now, not after hours
            study.plan(plan, variant, 0).experiment(study.task, study.task.splits[0])
    if options.tables:
        _write(options, plan)
        return 0
    return _run(options, plan, studies)


def _run(options: Ablations, plan: "Plan", studies: "list[Study]") -> int:
    """Every training, one after another; one that cannot be done does not stop the others."""
    from experiments.real_cells.work import StoppedEarly, trained, with_files

    there = with_files(plan, [study.task for study in studies])
    studies = [study for study in studies if study.task in there]
    jobs = [
        (study, variant, seed) for seed in range(options.seeds) for study in studies for variant in study.all_variants
    ]
    failed = 0
    for number, (study, variant, seed) in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {study.name}: {variant.name}, seed {seed}", flush=True)
        try:
            trained(study.plan(plan, variant, seed), study.task, study.task.splits[0])
        except StoppedEarly:
            return START_AGAIN
        except InputError as error:
            failed += 1
            print(f"lingshu ablations: {study.name}, {variant.name}: {error}", file=sys.stderr, flush=True)
            continue
        _write(options, plan)
    return BAD_INPUT if failed else 0


def _write(options: Ablations, plan: "Plan") -> None:
    """The tables of all studies that have runs, whichever were asked for."""
    from experiments.ablations.studies import STUDIES
    from experiments.ablations.tables import study_table
    from experiments.real_cells.page import read_page, with_tables, write_page

    found = {study.name: lines for study in STUDIES if (lines := study_table(plan, study, options.seeds))}
    if not found:
        print(f"no training of a study is finished in {options.runs}: {options.out} is left as it is")
        return
    changed = write_page(options.out, with_tables(read_page(options.out), found, "Ablations"))
    print(f"{options.out}: {len(found)} tables {'written' if changed else 'are as they were'}")
