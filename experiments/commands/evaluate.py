"""`lingshu evaluate RUN`: the run's samples against held-out cells and baselines; `--whole` draws and reports too."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import tyro

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.command_line import parse
from experiments.commands.next_command import print_next
from experiments.commands.options import DEFAULT_RUNS, Place, runs_arguments
from experiments.commands.sample import default_sampler
from experiments.progress import StageProgress
from experiments.storage import Folder, storage_of
from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.parallel.config import DistributedConfig

if TYPE_CHECKING:
    from experiments.evaluation.job import EvaluationSettings
    from experiments.evaluation.results import Evaluation
    from experiments.runs import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Options of `lingshu evaluate`. Those from --n on say how --whole draws cells."""

    run: tyro.conf.Positional[str]
    """The run: a folder, an id or its beginning, a name, an alias, or `latest`."""
    split: Literal["val", "test"] = "test"
    """Part of the run's split whose cells count as held out."""
    whole: bool = False
    """The whole job: draw the cells of --split, evaluate them, write the report; what is done already is skipped."""
    again: bool = False
    """Evaluate again what is evaluated already."""
    samples: Place | None = None
    """Generated cells; the newest that `lingshu sample RUN --split` wrote, where not given."""
    runs: Place = DEFAULT_RUNS
    """Folder of run folders, or a gs:// or s3:// URL of one."""
    store: str | None = None
    """The run's store, where it has moved."""
    step: int | None = None
    """Which checkpoint; the one that the samples are of, or with --whole the newest, where not given."""
    draws: int = 16
    """Noised copies of each held-out cell for the bound."""
    bound_cells: int = 1000
    """At most this many held-out cells are scored by the bound."""
    given_library_size: bool = False
    """Bound -log p given each cell's library size too: another quantity, named so and compared with nothing."""
    seed: int = 0
    """Seed of masks, halves and bootstraps; with --whole of the cells as well."""
    challenge: bool = True
    """Score perturbations by cell-eval2 as well: the paper's seven columns and those of VCC 2026. Takes most of the
    time of an evaluation."""
    min_cells: int = 30
    """Real held-out cells that a condition needs to be scored; one with fewer is listed."""
    min_controls: int = 20
    """Held-out controls that its context needs: one half is for the prediction, the other for the truth."""
    target_genes: bool = True
    """A perturbation named like a gene is that gene, which PDS leaves out; not so for cytokines and drugs."""
    out: Place | None = None
    """With --whole: the page; report.html in the run folder where not given."""
    n: str | None = None
    """Cells per condition: a number, or `match` for as many as the split has."""
    unseen: Literal["error", "features", "null"] = "error"
    """What to do with a perturbation without training cells."""
    prior: str = "none"
    """Genes told before the others are drawn, as for `lingshu sample`."""
    distributed: DistributedConfig = DistributedConfig()
    """Several processes that share the drawing; process 0 evaluates."""
    sampler: SamplerConfig
    """How cells are drawn."""

    def settings(self) -> "EvaluationSettings":
        """What the numbers depend on."""
        from experiments.evaluation.job import EvaluationSettings

        names = (field.name for field in dataclasses.fields(EvaluationSettings))
        return EvaluationSettings(**{name: getattr(self, name) for name in names})


def parse_options(arguments: Sequence[str]) -> Evaluate:
    """Options, with the sampler of the run's experiment as the default.

    Raises:
        InputError: an option is unknown or has no possible value.
    """
    default = Evaluate(run=tyro.MISSING, sampler=default_sampler(arguments))
    options: Evaluate = parse(
        Evaluate, arguments, prog="lingshu evaluate", description="Compare a run with held-out cells.", default=default
    )
    if options.draws < 2 or options.bound_cells < 1:
        raise InputError("--draws must be >= 2 and --bound-cells >= 1.")
    if options.min_cells < 2 or options.min_controls < 2:
        raise InputError("--min-cells and --min-controls must be >= 2: replicates are halves.")
    return options


def run(arguments: Sequence[str]) -> int:
    """Evaluate, save, and print the headline."""
    options = parse_options(arguments)
    if options.whole:
        from experiments.commands.whole_evaluation import evaluate_whole

        return evaluate_whole(options)
    _check_unused(options)

    from experiments.commands.recording import recording
    from experiments.runs import find_checkpoint

    folder, named = find_checkpoint(options.run, options.runs)
    step = named if options.step is None else options.step
    samples = options.samples or newest_samples(folder.samples, options.split, folder.id, step)
    with recording(folder), StageProgress() as progress, storage_of(samples).reading(samples) as file:
        _evaluated(options, folder, file, step, progress)
    print_next(["report", folder.id, *runs_arguments(options.runs)])
    return 0


def _evaluated(
    options: Evaluate, folder: "RunFolder", samples: pathlib.Path, step: int | None, progress: Progress
) -> None:
    from experiments.evaluation.job import evaluate_run, there_already
    from experiments.simulation.output import stored_provenance

    settings, out = options.settings(), folder.evaluations / samples.stem
    request = stored_provenance(samples).get("request")
    there = None if options.again else there_already(out, request, settings, part=options.split, run=folder)
    if there is None:
        found = evaluate_run(
            folder, samples, settings, part=options.split, step=step, store_path=options.store, progress=progress
        )
        found.save(out)
        say(found, out)
    else:
        say(there, out, was_there=True)


def say(evaluation: "Evaluation", out: Folder, *, was_there: bool = False) -> None:
    """Print the headline, and where the rest is."""
    print("\n".join(evaluation.headline()))
    print(f"{out} holds this evaluation already (--again makes it anew)" if was_there else f"saved in {out}")


def _check_unused(options: Evaluate) -> None:
    """Refuse options that only the whole job has a use for."""
    default = Evaluate(run=options.run, sampler=default_sampler([options.run, "--runs", str(options.runs)]))
    for name in ("out", "n", "unseen", "prior", "distributed", "sampler"):
        if getattr(options, name) != getattr(default, name):
            raise InputError(f"--{name} is for the whole job, which draws cells and writes the report: pass --whole.")


def newest_samples(folder: Folder, part: str, run_id: str, step: int | None = None) -> Folder:
    """The newest file that `lingshu sample --split PART` wrote, of a checkpoint where one is given.

    Raises:
        InputError: there is none.
    """
    which = "*" if step is None else f"{step}-*"
    files = sorted(folder.glob(f"{part}-{which}.h5ad"), key=storage_of(folder).modified)
    if not files:
        of, more = ("", "") if step is None else (f" of step {step}", f" --step {step}")
        raise InputError(
            f"{folder} has no samples of the {part} part{of}. Draw them: lingshu sample {run_id} --split {part}{more}"
        )
    return files[-1]
