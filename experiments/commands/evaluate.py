"""`lingshu evaluate RUN`: the run's samples against held-out cells and baselines, and its held-out bound."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, Place, runs_arguments
from experiments.progress import StageProgress
from experiments.storage import Folder, storage_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Options of `lingshu evaluate`."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, or `latest`."""
    split: Literal["val", "test"] = "test"
    """Part of the run's split whose cells count as held out."""
    samples: Place | None = None
    """Generated cells; the newest that `lingshu sample RUN --split` wrote, where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    store: str | None = None
    """The run's store, where it has moved."""
    draws: int = 16
    """Noised copies of each held-out cell for the bound."""
    bound_cells: int = 1000
    """At most this many held-out cells are scored by the bound."""
    given_library_size: bool = False
    """Bound -log p given each cell's library size too: another quantity, named so and compared with nothing."""
    seed: int = 0
    """Seed of masks, halves and bootstraps."""
    challenge: bool = True
    """Score perturbations by cell-eval2 as well: the paper's seven columns and those of VCC 2026. Takes most of the
    time of an evaluation."""
    target_genes: bool = True
    """A perturbation named like a gene is that gene, which PDS leaves out; not so for cytokines and drugs."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate, save, and print the headline."""
    options = parse(Evaluate, arguments, prog="lingshu evaluate", description="Compare a run with held-out cells.")

    if options.draws < 2 or options.bound_cells < 1 or options.seed < 0:
        raise InputError("--draws must be >= 2, --bound-cells >= 1 and --seed >= 0.")

    from experiments.runs import find_run

    folder = find_run(options.run, options.runs)
    samples = options.samples or newest_samples(folder.samples, options.split, folder.id)

    from experiments.evaluation.job import evaluate_run

    with StageProgress() as progress, storage_of(samples).reading(samples) as file:
        evaluation = evaluate_run(
            folder,
            file,
            part=options.split,
            store_path=options.store,
            draws=options.draws,
            bound_cells=options.bound_cells,
            given_library_size=options.given_library_size,
            seed=options.seed,
            challenge=options.challenge,
            target_genes=options.target_genes,
            progress=progress,
        )
    out = folder.evaluations / samples.stem
    evaluation.save(out)
    print("\n".join(evaluation.headline()))
    print(f"saved in {out}")
    print_next(["report", folder.id, *runs_arguments(options.runs)])
    return 0


def newest_samples(folder: Folder, part: str, run_id: str) -> Folder:
    """The newest file that `lingshu sample --split PART` wrote.

    Raises:
        InputError: there is none.
    """
    files = sorted(folder.glob(f"{part}-*.h5ad"), key=storage_of(folder).modified)
    if not files:
        raise InputError(
            f"{folder} has no samples of the {part} part. Draw them: lingshu sample {run_id} --split {part}"
        )
    return files[-1]
