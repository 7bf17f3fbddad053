"""A trained run as a Python object: load it by reference, sample from it, score cells with it."""

import dataclasses
import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.progress import silent
from experiments.runs import RunFolder, find_checkpoint
from experiments.storage import folder_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import anndata
    import pandas

    from data_pipelines import CellStore
    from experiments.assembly import ModelPlan
    from experiments.prior import Prior
    from experiments.simulation.effects import PredictedEffects
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
            conditions: one row per condition: a column per condition field (numbers may be empty or missing: left
                out), and n_cells.
            sampler: sampler settings; None takes the experiment's.
            seed: same seed, same cells, whatever else is asked for with them.
            unseen: what to do with a label without training cells: "error", "features" (those of the
                target) or "null" (the null condition).
            prior: genes told before the others are drawn: "none", "expressed" or "paper" (what the perturbation
                turns down in training cells of other contexts), or a csv with gene and value.
            store: the run's store, where it has moved; only "expressed" and "paper" read it.
            progress: called as progress(stage, done, total).

        Returns:
            AnnData of integer counts (CSR int32), the conditions in obs, the provenance in uns['lingshu'].

        Raises:
            InputError: a column is missing, a label unknown, a number of cells no number.
        """
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

    def impute(
        self,
        cells: "anndata.AnnData",
        *,
        hide: Any = None,
        share: float | None = None,
        expectation: int = 0,
        conditions: "Mapping[str, str] | None" = None,
        layer: str | None = None,
        sampler: "SamplerConfig | None" = None,
        seed: int = 0,
        unseen: Any = "error",
        progress: Any = None,
    ) -> "anndata.AnnData":
        """Complete partly measured cells; what was measured keeps its counts.

        Args:
            cells: raw counts; genes of the run's panel that it lacks are drawn, genes that the panel lacks are dropped.
            hide: names of measured genes to draw as if they were not.
            share: share of each cell's measured genes to hide, at random by the cell's name.
            expectation: 0 draws counts, k takes the mean of k draws (float32).
            conditions: labels for all cells by field, where obs does not have them.
            layer: where the raw counts are; None for X.
            sampler: sampler settings; None takes the experiment's.
            seed: same seed, same cells.
            unseen: as for `sample`.
            progress: called as progress(stage, done, total).

        Raises:
            InputError: a condition field is missing, a label unknown, a gene not in the panel, counts are no counts.
        """
        from experiments.simulation.complete import impute_request
        from experiments.simulation.measured import gene_mask, read_measured

        request = impute_request(
            self,
            read_measured(cells, self.plan.panel, layer=layer),
            conditions or {},
            hidden=None if hide is None else gene_mask(hide, self.plan.panel),
            hidden_share=share,
            expectation=expectation,
            sampler=sampler or self.plan.experiment.sampler,
            seed=seed,
            unseen=unseen,
        )
        return request.anndata(progress or silent)

    def counterfactual(
        self,
        cells: "anndata.AnnData",
        perturbation: str,
        *,
        keep: Any = None,
        keep_share: float | None = None,
        conditions: "Mapping[str, str] | None" = None,
        layer: str | None = None,
        sampler: "SamplerConfig | None" = None,
        seed: int = 0,
        unseen: Any = "error",
        progress: Any = None,
    ) -> "anndata.AnnData":
        """The same cells under another perturbation; the original label goes to obs['original_FIELD'].

        Args:
            cells: raw counts.
            perturbation: the new label; A+B for both.
            keep: names of genes that keep their counts.
            keep_share: share of each cell's measured genes (of `keep`, where given) that keep their counts, chosen at
                random by the cell's name: the same genes for every label.
            conditions: labels for all cells by field, where obs does not have them.
            layer: where the raw counts are; None for X.
            sampler: sampler settings; None takes the experiment's.
            seed: same seed, same cells.
            unseen: as for `sample`.
            progress: called as progress(stage, done, total).

        Raises:
            InputError: nothing is said to be kept, or as for `impute`.
        """
        from experiments.simulation.complete import counterfactual_request
        from experiments.simulation.measured import gene_mask, read_measured

        request = counterfactual_request(
            self,
            read_measured(cells, self.plan.panel, layer=layer),
            perturbation,
            conditions or {},
            kept=None if keep is None else gene_mask(keep, self.plan.panel),
            kept_share=keep_share,
            sampler=sampler or self.plan.experiment.sampler,
            seed=seed,
            unseen=unseen,
        )
        return request.anndata(progress or silent)

    def score(
        self,
        cells: "anndata.AnnData",
        *,
        by: str | None = None,
        conditions: "Mapping[str, str] | None" = None,
        layer: str | None = None,
        draws: int = 16,
        seed: int = 0,
        progress: Any = None,
    ) -> "pandas.DataFrame":
        """Upper bounds on -log p(cell | labels), or p(label | cell).

        Args:
            cells: raw counts; genes that it lacks count for nothing.
            by: a condition field: p(label | cell) over its labels instead, with equal weights.
            conditions: labels for all cells by field, where obs does not have them.
            layer: where the raw counts are; None for X.
            draws: noised copies of each cell, >= 2.
            seed: of masks and mask rates.
            progress: called as progress(stage, done, total).

        Returns:
            A row per cell: nats, standard_error, genes, nats_per_gene (nats_given_library_size, ... where `conditions`
            give that); or a column p(LABEL) per label, and label.

        Raises:
            InputError: as for `impute`.
        """
        from experiments.simulation.measured import labels_of_cells, read_measured
        from experiments.simulation.scoring import Scoring, label_posteriors, labels_to_tell, score_cells

        measured = read_measured(cells, self.plan.panel, layer=layer)
        scoring = Scoring(draws=draws, seed=seed)
        if by is None:
            labels = labels_of_cells(measured, self, conditions or {})
            return score_cells(self, measured, labels, scoring, progress or silent)
        labels = labels_to_tell(self, measured, by, conditions or {})
        return label_posteriors(self, measured, labels, by, scoring, progress=progress or silent)

    def embed(
        self,
        cells: "anndata.AnnData",
        *,
        conditions: "Mapping[str, str] | None" = None,
        layer: str | None = None,
        progress: Any = None,
    ) -> "anndata.AnnData":
        """The cells on the run's panel, with representations (n, E) in obsm['X_lingshu'].

        Args:
            cells: raw counts; genes that it lacks are told to the model as unmeasured.
            conditions: labels for all cells by field, where obs does not have them.
            layer: where the raw counts are; None for X.
            progress: called as progress(stage, done, total).

        Raises:
            InputError: as for `impute`.
        """
        from experiments.simulation.embedding import embedded
        from experiments.simulation.measured import labels_of_cells, read_measured

        measured = read_measured(cells, self.plan.panel, layer=layer)
        return embedded(self, measured, labels_of_cells(measured, self, conditions or {}), progress=progress or silent)

    def predict_effect(
        self,
        context: "Mapping[str, str] | str",
        perturbations: "Sequence[str]",
        *,
        n: int = 400,
        sampler: "SamplerConfig | None" = None,
        seed: int = 0,
        unseen: Any = "error",
        prior: "Prior | str" = "none",
        progress: Any = None,
    ) -> "PredictedEffects":
        """Mean shifts and a DE table of perturbations in a context, against its sampled controls.

        Args:
            context: a label per context field; for a model with one, the label alone.
            perturbations: labels; A+B for both.
            n: cells drawn per perturbation, and of controls; they are not kept.
            sampler: sampler settings; None takes the experiment's.
            seed: same seed, same result.
            unseen: as for `sample`.
            prior: as for `sample`.
            progress: called as progress(stage, done, total).

        Returns:
            `delta` (perturbations, genes), `control` (genes), and `de`; see `PredictedEffects`.

        Raises:
            InputError: there is no perturbation field, or a label is unknown.
        """
        from experiments.prior import parse_prior
        from experiments.simulation.effects import Drawing, predict_effect

        drawing = Drawing(
            n=n,
            sampler=sampler or self.plan.experiment.sampler,
            seed=seed,
            unseen=unseen,
            prior=parse_prior(prior) if isinstance(prior, str) else prior,
        )
        return predict_effect(self, context, perturbations, drawing, progress=progress or silent)

    def bound(
        self,
        store: "CellStore",
        rows: np.ndarray,
        *,
        draws: int = 16,
        seed: int = 0,
        cells_per_device: int = 32,
        given_library_size: bool = False,
        progress: Any = lambda done, total: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Upper bounds on -log p of stored cells given their labels and numbers, nats per cell, with standard errors:
        two (n,). Given the library size too, they are bounds on something else, not to be compared with those without.
        """
        from experiments.stored_conditions import stored_conditions
        from experiments.train import tokens_of
        from lingshu_jax.evaluation.bound import bound_of_cells

        return bound_of_cells(
            self.model,
            functools.partial(tokens_of, store),
            rows,
            stored_conditions(store, rows, self.plan.vocabulary, given_library_size=given_library_size),
            seed=seed,
            draws=draws,
            cells_per_device=cells_per_device,
            progress=progress,
        )


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def panel_of(reference: str, *, runs: str | os.PathLike[str] = "runs") -> "GenePanel":
    """The genes of a run's model, from its newest complete checkpoint.

    Raises:
        InputError: no such run, or it has no checkpoint that can be read.
    """
    from data_pipelines.errors import InputError
    from experiments.assembly import ModelPlan
    from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints

    folder, step = find_checkpoint(reference, folder_at(runs))
    try:
        checkpoints = Checkpoints(folder.checkpoints, read_only=True, items=("meta",), warn=warn)
        return ModelPlan.from_json(checkpoints.meta(checkpoints.latest_step() if step is None else step)).panel
    except (CheckpointError, FileNotFoundError) as error:
        raise InputError(f"{folder.path}: {error}") from error


def load_run(reference: str, *, runs: str | os.PathLike[str] = "runs", step: int | None = None) -> LoadedRun:
    """Load a run's averaged weights onto this machine's devices; nothing but its run folder is needed.

    Args:
        reference: a run folder or its URL, an id or the beginning of one, a --run name, an alias, or `latest`.
        runs: the folder of run folders, or its gs:// or s3:// URL.
        step: which checkpoint; None takes the alias's, else the newest complete one.

    Raises:
        InputError: no such run or step, or the checkpoint cannot be read by this version.
    """
    folder, named = find_checkpoint(reference, folder_at(runs))
    step = named if step is None else step

    import jax

    from data_pipelines.errors import InputError
    from experiments.assembly import ModelPlan
    from lingshu_jax.parallel.config import MeshConfig
    from lingshu_jax.parallel.mesh import make_mesh
    from lingshu_jax.training.checkpoint import AVERAGED, CheckpointError, Checkpoints, abstract_like
    from lingshu_jax.training.state import abstract_params

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of every read-only folder
    try:
        checkpoints = Checkpoints(folder.checkpoints, read_only=True, items=AVERAGED, warn=warn)
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
