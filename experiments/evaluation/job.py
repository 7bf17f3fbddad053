"""The evaluation job: a run and its generated cells in, an evaluation out."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.run_data import run_data
from experiments.runs import RunFolder
from experiments.simulation.output import is_zarr, stored_provenance
from experiments.storage import Folder, absolute
from lingshu_jax.buckets import in_bucket

if TYPE_CHECKING:
    from data_pipelines import CellStore
    from experiments.evaluation.challenge import Challenge
    from experiments.evaluation.evaluate import Bounds
    from experiments.evaluation.results import Evaluation
    from experiments.load import LoadedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What an evaluation's numbers depend on, beside its cells, checkpoint, store and split."""

    draws: int
    """Noised copies of each held-out cell for the bound."""
    bound_cells: int
    """At most this many held-out cells are bounded."""
    seed: int
    """Of everything random."""
    challenge: bool
    """Score perturbations by the field's evaluator as well."""
    target_genes: bool
    """A perturbation named like a gene is that gene."""
    given_library_size: bool = False
    """Bound -log p given each cell's library size too."""
    min_cells: int = 30
    """Real held-out cells that a condition needs to be scored."""
    min_controls: int = 20
    """Held-out controls that its context needs."""


def evaluate_run(
    folder: RunFolder,
    samples: pathlib.Path,
    settings: EvaluationSettings,
    *,
    part: str,
    step: int | None = None,
    run: "LoadedRun | None" = None,
    store_path: str | pathlib.Path | None = None,
    progress: Progress,
) -> "Evaluation":
    """Evaluate generated cells of a run, and bound the likelihood of its held-out cells.

    Args:
        folder: the run.
        samples: h5ad or zarr folder that `lingshu sample` wrote.
        settings: what else the numbers depend on.
        part: part of the run's split whose cells count as held out.
        step: the checkpoint that is bounded, where the samples are not the run's own; theirs where they are.
        run: that checkpoint, if it is loaded already.
        store_path: where the store is now; None takes the run's own path.
        progress: called as progress(stage, done, total).

    Raises:
        InputError: store, split or samples do not belong to the run, or the checkpoint is gone.
    """
    import anndata

    from data_pipelines import load_statistics
    from experiments.evaluation.evaluate import evaluate, provenance_of
    from experiments.evaluation.held_out import Fewest
    from experiments.evaluation.sides import check_sides
    from experiments.load import load_run

    store, split = run_data(folder, store_path)
    drawn_from = step_of(samples, folder, step)
    generated = _read(samples, anndata)
    statistics = load_statistics(store, split, progress=progress)
    check_sides(store, split, statistics, generated, part)  # before the bound, which takes long
    notes = () if provenance_of(generated) else (_UNKNOWN.format(name=samples.name),)
    run = run or load_run(str(folder.path), step=drawn_from)
    found = evaluate(
        store=store,
        split=split,
        statistics=statistics,
        generated=generated,
        bounds=_bounds(run, store, split.rows(part), settings, progress),
        part=part,
        seed=settings.seed,
        challenge=_challenge(folder, settings.target_genes) if settings.challenge else None,
        fewest=Fewest(cells=settings.min_cells, controls=settings.min_controls),
        progress=progress,
    )
    return dataclasses.replace(
        found, step=run.step, settings=dataclasses.asdict(settings), notes=(*notes, *found.notes)
    )


_UNKNOWN = (
    "{name} does not say what drew its cells: whether they are this run's, and whether the held-out cells were unseen, "
    "is not known. The bound is this run's."
)


def _bounds(
    run: "LoadedRun", store: "CellStore", rows: np.ndarray, settings: EvaluationSettings, progress: Progress
) -> "Bounds | None":
    """Bounds of a sample of held-out cells; None where the model knows the labels of none."""
    from experiments.evaluation.evaluate import Bounds
    from experiments.train import known_rows

    rows = known_rows(store, rows, run.plan)
    rows = np.sort(np.random.default_rng(settings.seed).permutation(rows)[: settings.bound_cells])
    if not len(rows):
        return None
    given = settings.given_library_size
    nats, errors = run.bound(
        store,
        rows,
        draws=settings.draws,
        seed=settings.seed,
        given_library_size=given,
        progress=lambda done, total: progress("bound", done, total),
    )
    return Bounds(rows=rows, nats=nats, standard_errors=errors, given_library_size=given)


def step_of(samples: pathlib.Path, folder: RunFolder, step: int | None) -> int | None:
    """The checkpoint that cells of a run were drawn from; `step` for cells that do not say what drew them.

    Raises:
        InputError: another run drew them, whose split may have trained on the held-out cells of this one.
    """
    drawn, config = stored_provenance(samples), folder.config()
    if not drawn:
        return step
    for name in ("store", "split"):
        theirs, ours = drawn.get(f"{name}_hash"), config[f"{name}_hash"]
        if theirs not in (None, ours):
            raise InputError(
                f"{samples} was drawn by a run on another {name} ({theirs}; run {folder.id} has {ours}): scores would "
                f"be of cells that it may have seen. Evaluate it with its own run, or draw: lingshu sample {folder.id}"
            )
    # A run that was renamed still holds its own samples.
    if drawn.get("run") not in (None, folder.id) and absolute(samples).parent != absolute(folder.samples):
        raise InputError(
            f"{samples} was drawn by run {drawn['run']}, not by {folder.id}: the bound would be of another model. "
            f"Write: lingshu evaluate {drawn['run']} --samples {samples}"
        )
    return drawn.get("step", step)


def there_already(
    out: Folder, request: Any, settings: EvaluationSettings, *, part: str, run: RunFolder
) -> "Evaluation | None":
    """The evaluation in a folder, if it is exactly this one: of the same request for cells (hence checkpoint, sampler
    and seed), store, split and part, with the same settings, by the same versions.
    """
    from experiments.evaluation.evaluate import versions
    from experiments.evaluation.results import METRICS_FILE, Evaluation

    if request is None or not (out / METRICS_FILE).is_file():
        return None
    try:
        there = Evaluation.load(out)
    except (InputError, OSError, ValueError, TypeError, KeyError):
        return None  # damaged, or another version's: written again
    config = run.config()
    found = (there.provenance.get("request"), there.part, there.store_hash, there.split_hash)
    wanted = (request, part, config["store_hash"], config["split_hash"])
    same = found == wanted and there.settings == dataclasses.asdict(settings) and there.versions == versions()
    return there if same else None


def _challenge(folder: RunFolder, target_genes: bool) -> "Challenge":
    from experiments.evaluation.challenge import Challenge

    # cell-eval2 keeps its tables in files of this machine; beside a run in a bucket they are computed again.
    cache = None if in_bucket(folder.path) else pathlib.Path(folder.evaluations) / "real-tables"
    return Challenge(target_genes=target_genes, cache=cache)


def _read(samples: pathlib.Path, anndata: object) -> object:
    try:
        read = anndata.read_zarr if is_zarr(samples) else anndata.read_h5ad  # type: ignore[attr-defined]
        return read(samples)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{samples} cannot be read as generated cells ({error}). Sample them again.") from error
