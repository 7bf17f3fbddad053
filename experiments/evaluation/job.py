"""The evaluation job: a run and its generated cells in, an evaluation out."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.run_data import run_data
from experiments.runs import RunFolder
from experiments.simulation.output import is_zarr
from lingshu_jax.buckets import in_bucket

if TYPE_CHECKING:
    from experiments.evaluation.challenge import Challenge
    from experiments.evaluation.results import Evaluation


def evaluate_run(
    folder: RunFolder,
    samples: pathlib.Path,
    *,
    part: str,
    store_path: str | pathlib.Path | None,
    draws: int,
    bound_cells: int,
    seed: int,
    challenge: bool,
    target_genes: bool,
    progress: Progress,
    given_library_size: bool = False,
) -> "Evaluation":
    """Evaluate generated cells of a run, and bound the likelihood of its held-out cells.

    Args:
        folder: the run.
        samples: h5ad or zarr folder that `lingshu sample` wrote.
        part: part of the run's split whose cells count as held out.
        store_path: where the store is now; None takes the run's own path.
        draws: noised copies of each cell for the bound.
        bound_cells: at most this many cells are bounded.
        seed: of everything random.
        challenge, target_genes: as `lingshu evaluate` says.
        progress: called as progress(stage, done, total).
        given_library_size: bound -log p given each cell's library size too.

    Raises:
        InputError: store, split or samples do not belong to the run.
    """
    import anndata

    from data_pipelines import load_statistics
    from experiments.evaluation.evaluate import Bounds, evaluate
    from experiments.load import load_run
    from experiments.train import known_rows

    store, split = run_data(folder, store_path)
    generated = _read(samples, anndata)
    statistics = load_statistics(store, split, progress=progress)
    run = load_run(str(folder.path))
    rows = known_rows(store, split.rows(part), run.plan)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:bound_cells])
    how = {"draws": draws, "seed": seed, "given_library_size": given_library_size}
    bounds = None
    if len(rows):
        nats, errors = run.bound(store, rows, progress=lambda done, total: progress("bound", done, total), **how)
        bounds = Bounds(rows=rows, nats=nats, standard_errors=errors, given_library_size=given_library_size)
    return evaluate(
        store=store,
        split=split,
        statistics=statistics,
        generated=generated,
        bounds=bounds,
        part=part,
        seed=seed,
        challenge=_challenge(folder, target_genes) if challenge else None,
        progress=progress,
    )


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
