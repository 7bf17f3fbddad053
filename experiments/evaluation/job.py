"""The evaluation job: a run and its generated cells in, an evaluation out."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.run_data import run_data
from experiments.runs import RunFolder
from experiments.simulation.output import is_zarr

if TYPE_CHECKING:
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

    Raises:
        InputError: store, split or samples do not belong to the run.
    """
    import anndata

    from data_pipelines import load_statistics
    from experiments.evaluation.challenge import Challenge
    from experiments.evaluation.evaluate import evaluate
    from experiments.load import load_run
    from experiments.train import known_rows

    store, split = run_data(folder, store_path)
    generated = _read(samples, anndata)
    statistics = load_statistics(store, split, progress=progress)
    run = load_run(str(folder.path))
    rows = known_rows(store, split.rows(part), run.plan)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:bound_cells])
    bounds = None
    if len(rows):
        nats, errors = run.bound(
            store, rows, draws=draws, seed=seed, progress=lambda done, total: progress("bound", done, total)
        )
        bounds = {"rows": rows, "nats": nats, "standard_errors": errors}
    return evaluate(
        store=store,
        split=split,
        statistics=statistics,
        generated=generated,
        bounds=bounds,
        part=part,
        seed=seed,
        challenge=Challenge(target_genes=target_genes, cache=folder.evaluations / "real-tables") if challenge else None,
        progress=progress,
    )


def _read(samples: pathlib.Path, anndata: object) -> object:
    try:
        read = anndata.read_zarr if is_zarr(samples) else anndata.read_h5ad  # type: ignore[attr-defined]
        return read(samples)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{samples} cannot be read as generated cells ({error}). Sample them again.") from error
