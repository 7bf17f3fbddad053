"""A trained run as a Python object: load it by reference, sample from it, score cells with it."""

import dataclasses
import functools
import logging
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs import RunFolder, find_run

if TYPE_CHECKING:
    import anndata
    import pandas

    from data_pipelines import CellStore
    from experiments.assembly import ModelPlan
    from experiments.prior import Prior
    from lingshu_jax.diffusion import SamplerConfig
    from lingshu_jax.model import Denoiser
    from lingshu_jax.vocabulary import GenePanel


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun:
    """The averaged weights of one checkpoint, with everything needed to use them."""

    folder: RunFolder
    step: int
    plan: "ModelPlan"
    model: "Denoiser"

    def sample(
        self,
        conditions: "pandas.DataFrame",
        *,
        sampler: "SamplerConfig | None" = None,
        seed: int = 0,
        unseen: Any = "error",
        prior: "Prior | str" = "none",
        store: str | None = None,
        progress: Any = None,
    ) -> "anndata.AnnData":
        """Draw cells.

        Args:
            conditions: one row per condition: a column per condition field, and n_cells.
            sampler: sampler settings; None takes the experiment's.
            seed: same seed, same cells, whatever else is asked for with them.
            unseen: what to do with a label without training cells: "error", or "null" (the null condition).
            prior: genes told before the others are drawn: "none", "expressed" or "paper" (what the perturbation
                turns down in training cells of other contexts), or a csv with gene and value.
            store: the run's store, where it has moved; only "expressed" and "paper" read it.
            progress: called as progress(stage, done, total).

        Returns:
            AnnData of integer counts (CSR int32), the conditions in obs, the provenance in uns['lingshu'].

        Raises:
            InputError: a column is missing, a label unknown, a number of cells no number.
        """
        from data_pipelines.progress import silent
        from experiments.prior import parse_prior
        from experiments.sample import draw_cells

        return draw_cells(
            self,
            conditions,
            sampler or self.plan.experiment.sampler,
            seed,
            unseen,
            parse_prior(prior) if isinstance(prior, str) else prior,
            store=store,
            progress=progress or silent,
        )

    def bound(
        self,
        store: "CellStore",
        rows: np.ndarray,
        *,
        draws: int = 16,
        seed: int = 0,
        cells_per_device: int = 32,
        progress: Any = lambda done, total: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Upper bounds on -log p of stored cells given their labels, nats per cell, with standard errors: two (n,)."""
        from data_pipelines import condition_rows
        from experiments.train import tokens_of
        from lingshu_jax.evaluation.bound import bound_of_cells

        return bound_of_cells(
            self.model,
            functools.partial(tokens_of, store),
            rows,
            condition_rows(store, rows, self.plan.vocabulary),
            seed=seed,
            draws=draws,
            cells_per_device=cells_per_device,
            progress=progress,
        )


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def panel_of(reference: str, *, runs: str | pathlib.Path = "runs") -> "GenePanel":
    """The genes of a run's model, from its newest complete checkpoint.

    Raises:
        InputError: no such run, or it has no checkpoint that can be read.
    """
    from data_pipelines.errors import InputError
    from experiments.assembly import ModelPlan
    from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints

    folder = find_run(reference, pathlib.Path(runs))
    try:
        checkpoints = Checkpoints(folder.checkpoints.resolve(), read_only=True, items=("meta",), warn=warn)
        return ModelPlan.from_json(checkpoints.meta(checkpoints.latest_step())).panel
    except (CheckpointError, FileNotFoundError) as error:
        raise InputError(f"{folder.path}: {error}") from error


def load_run(reference: str, *, runs: str | pathlib.Path = "runs", step: int | None = None) -> LoadedRun:
    """Load a run's averaged weights onto this machine's devices; nothing but its run folder is needed.

    Args:
        reference: a run folder, an id or the beginning of one, a --run name, or `latest`.
        runs: the folder of run folders.
        step: which checkpoint; None takes the newest complete one.

    Raises:
        InputError: no such run or step, or the checkpoint cannot be read by this version.
    """
    folder = find_run(reference, pathlib.Path(runs))

    import jax

    from data_pipelines.errors import InputError
    from experiments.assembly import ModelPlan
    from lingshu_jax.parallel.config import MeshConfig
    from lingshu_jax.parallel.mesh import make_mesh
    from lingshu_jax.training.checkpoint import AVERAGED, CheckpointError, Checkpoints, abstract_like
    from lingshu_jax.training.state import abstract_params

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of every read-only folder
    try:
        checkpoints = Checkpoints(folder.checkpoints.resolve(), read_only=True, items=AVERAGED, warn=warn)
        step = checkpoints.latest_step() if step is None else step
        plan = ModelPlan.from_json(checkpoints.meta(step))
        # Of this process alone: several share work by dividing the cells.
        mesh = make_mesh(MeshConfig(), jax.local_devices())
        parts = plan.parts(mesh)
        params, fixed = checkpoints.restore_ema(abstract_params(plan.build, mesh), abstract_like(parts.fixed), step)
    except (CheckpointError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    checkpoints.close()
    model = dataclasses.replace(parts, fixed=jax.block_until_ready(fixed)).merge(params)
    assert step is not None
    return LoadedRun(folder, step, plan, model)
