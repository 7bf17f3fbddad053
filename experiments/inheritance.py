"""`train EXP --init.from REF`: a run begins with the weights of another one, on another panel and with other labels."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from data_pipelines.errors import InputError
from data_pipelines.statistics import Statistics
from experiments.assembly import ModelPlan, start_statistics
from experiments.blueprint import Blueprint
from experiments.experiment import Experiment, InitConfig
from experiments.runs import RunFolder, find_checkpoint
from experiments.storage import Folder
from lingshu_jax.label_terms import LowRankRates, label_terms, term_name
from lingshu_jax.model.config import DenoiserConfig
from lingshu_jax.model.denoiser import FixedArrays
from lingshu_jax.model.parameters import Fixed
from lingshu_jax.model.statistics import StartStatistics
from lingshu_jax.parallel.mesh import replicated
from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints, abstract_like
from lingshu_jax.training.inherit import is_frozen, parameter_names, take_over, take_over_fixed
from lingshu_jax.training.state import ModelParts, TrainState, abstract_params, fresh_state
from lingshu_jax.vocabulary import ConditionVocabulary, GenePanel, content_hash, nearest

INHERITED = (
    "genes_per_patch", "width", "blocks", "heads", "ffn_width", "start", "factors", "features", "zero_origin",
    "input_scale",
)  # fmt: skip
"""Settings of a model that decide the shape or the meaning of its weights."""


@dataclasses.dataclass(frozen=True, eq=False)
class Parent:
    """The checkpoint that a run begins with."""

    run: RunFolder
    step: int
    plan: ModelPlan
    hash: str
    """Of the checkpoint's description and step: changes with anything that decided its weights."""

    def record(self) -> dict[str, Any]:
        """For the run's config."""
        return {"run": str(self.run.path), "step": self.step, "hash": self.hash}


def find_parent(init: InitConfig, root: Folder) -> Parent:
    """The checkpoint that a setting names.

    Raises:
        InputError: no such run or step, or it cannot be read.
    """
    assert init.source is not None
    folder, named = find_checkpoint(init.source, root)
    step = named if init.step is None else init.step
    try:
        with _reading(folder) as checkpoints:
            step = checkpoints.latest_step() if step is None else step
            meta = checkpoints.meta(step)
            plan = ModelPlan.from_json(meta)
    except (CheckpointError, FileNotFoundError) as error:
        raise InputError(f"--init.from {init.source}: {error}") from error
    assert step is not None
    return Parent(folder, step, plan, content_hash([meta, step]))


def check_parent(parent: Parent, experiment: Experiment, panel: GenePanel, vocabulary: ConditionVocabulary) -> None:
    """Refuse a parent whose weights do not fit a model on this panel with these fields.

    Raises:
        InputError: the models' shapes differ, no gene is known, or a field has changed its kind; says which.
    """
    _check_shapes(experiment.model, parent.plan.experiment.model, parent)
    if not set(panel.genes) & set(parent.plan.panel.genes):
        raise InputError(
            f"--init.from {parent.run.id} knows none of the store's {len(panel):,} genes: it has "
            f"{', '.join(parent.plan.panel.genes[:3])}, the store {', '.join(panel.genes[:3])}. Ingest with the same "
            "ids (--genes.panel)."
        )
    try:
        parent.plan.vocabulary.extended(vocabulary)
    except ValueError as error:
        raise InputError(f"--init.from {parent.run.id}: {error} Name the columns as they were at ingest.") from error


def inherited_plan(experiment: Experiment, fresh: ModelPlan, parent: Parent) -> ModelPlan:
    """The plan of a model on a new store that takes the parent's weights over: genes keep their place, labels their
    row."""
    old = parent.plan
    known, vocabulary = _known_genes(fresh.panel, old.panel), old.vocabulary.extended(fresh.vocabulary)
    model = dataclasses.replace(experiment.model, head_tokens=old.experiment.model.head_tokens)
    same_fields = _label_names(old) == _label_names(fresh)
    return dataclasses.replace(
        fresh,
        experiment=dataclasses.replace(experiment, model=model),
        vocabulary=vocabulary,
        layout=old.layout.adapted(known),
        controls=tuple(sorted({*fresh.controls, *(old.controls if same_fields else ())})),
    )


def inherited_blueprint(blueprint: Blueprint, panel: GenePanel, parent: Parent) -> Blueprint:
    """The shapes of such a model, before its store's statistics are known."""
    old, experiment = parent.plan, blueprint.experiment
    model = dataclasses.replace(experiment.model, head_tokens=old.experiment.model.head_tokens)
    return dataclasses.replace(
        blueprint,
        experiment=dataclasses.replace(experiment, model=model),
        inherited=(
            old.layout.adapted(_known_genes(panel, old.panel)),
            old.vocabulary.extended(blueprint.vocabulary),
        ),
    )


def taken_over(parent: Parent, panel: GenePanel, vocabulary: ConditionVocabulary) -> list[str]:
    """Lines that say which genes and labels of a store the parent knows.

    Args:
        parent: the run that this one begins with.
        panel: the store's.
        vocabulary: the store's condition fields, without the parent's labels.
    """
    old = parent.plan
    known = int((_known_genes(panel, old.panel) >= 0).sum())
    lines = [
        f"begins with {parent.run.name}, step {parent.step:,}: it knows {known:,} of {len(panel):,} genes, "
        f"{len(panel) - known:,} are new; {len(old.panel) - known:,} of its own are not in the store"
    ]
    before = {field.name: set(field.labels) for field in old.vocabulary.labelled}
    for field in vocabulary.labelled:
        if field.name not in before:
            lines.append(f"  {field.name}: a new condition, {len(field.labels):,} labels")
            continue
        new = [label for label in field.labels if label not in before[field.name]]
        some = f" ({', '.join(new[:5])}{', ...' if len(new) > 5 else ''})" if new else ""
        lines.append(f"  {field.name}: {len(field.labels) - len(new):,} labels known, {len(new):,} new{some}")
    return lines


def continued_plan(experiment: Experiment, fresh: ModelPlan, saved: ModelPlan) -> ModelPlan:
    """The plan of a model that goes on from its own checkpoint, which holds what it took over."""
    model = dataclasses.replace(experiment.model, head_tokens=saved.experiment.model.head_tokens)
    return dataclasses.replace(
        fresh,
        experiment=dataclasses.replace(experiment, model=model),
        vocabulary=saved.vocabulary,
        layout=saved.layout,
        controls=saved.controls,
    )


def inherit(
    parent: Parent,
    plan: ModelPlan,
    statistics: Statistics,
    rates_at: Callable[[np.ndarray], LowRankRates | None],
    tx: optax.GradientTransformation,
    mesh: Mesh,
) -> tuple[TrainState, ModelParts]:
    """State before step 0, and fixed arrays: the parent's averaged weights, and fresh ones where it has none.

    Labels of a field that the parent knows begin with its rates, new ones with none; without such a field all begin
    with `rates_at` the means (G,) that the model starts from.
    """
    before = parent.plan.parts(mesh)
    with _reading(parent.run) as checkpoints:
        weights, fixed = checkpoints.restore_ema(
            abstract_params(parent.plan.build, mesh), abstract_like(before.fixed), parent.step
        )
    kept = plan.layout.spread(_known_genes(plan.panel, parent.plan.panel) >= 0, padding=False)
    told = _on_the_parents_scale(start_statistics(statistics, plan), plan, parent.plan, fixed)
    if not _known_terms(plan, parent.plan):
        told = dataclasses.replace(told, rates=rates_at(_mean_of(told, fixed, plan, kept)))
    arrays = nnx.state(FixedArrays(plan.experiment.model, plan.layout, plan.vocabulary, told), Fixed)
    placed = jax.device_put(take_over_fixed(arrays, fixed, kept), replicated(mesh))
    state = fresh_state(plan.build, tx, mesh, functools.partial(take_over, parent=weights))
    return state, dataclasses.replace(plan.parts(mesh), fixed=placed)


def check_frozen(patterns: tuple[str, ...], params: Any) -> None:
    """Refuse a pattern that names nothing.

    Raises:
        InputError: naming the nearest parts.
    """
    names = parameter_names(params)
    parts = sorted({*names, *(name.split(".")[0] for name in names)})
    for pattern in patterns:
        if not any(is_frozen(name, (pattern,)) for name in names):
            raise InputError(
                f"--init.freeze {pattern} names no part of the model (nearest: {nearest(pattern, parts)})."
            )
    if names and all(is_frozen(name, patterns) for name in names):
        raise InputError("--init.freeze names every part of the model: nothing would be trained.")


def _reading(folder: RunFolder) -> contextlib.closing[Checkpoints]:
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of every read-only folder
    return contextlib.closing(Checkpoints(folder.checkpoints, read_only=True))


def _label_names(plan: ModelPlan) -> list[str]:
    return [field.name for field in plan.vocabulary.labelled]


def _known_terms(new: ModelPlan, old: ModelPlan) -> set[str]:
    return {term_name(term) for term in label_terms(new.vocabulary)} & {
        term_name(term) for term in label_terms(old.vocabulary)
    }


def _known_genes(new: GenePanel, old: GenePanel) -> np.ndarray:
    return np.array([old.positions.get(gene, -1) for gene in new.genes])


def _check_shapes(model: DenoiserConfig, parents: DenoiserConfig, parent: Parent) -> None:
    for name in INHERITED:
        here, there = getattr(model, name), getattr(parents, name)
        if here != there:
            raise InputError(
                f"model.{name.replace('_', '-')} is {there} in --init.from {parent.run.id} and {here} here. Leave "
                f"--model.{name.replace('_', '-')} out: a fine-tuned model keeps its parent's."
            )


def _mean_of(told: StartStatistics, fixed: Any, plan: ModelPlan, kept: np.ndarray) -> np.ndarray:
    """(G,) means that the model starts from: the parent's where it knows the gene."""
    before = fixed.get("start", {}).get("mean")
    if before is None:
        return told.mean
    means = plan.layout.spread(told.mean, padding=0.0)
    old = np.asarray(before[...])
    means[: len(old)] = np.where(kept[: len(old)], old, means[: len(old)])
    return means.reshape(-1)[plan.layout.place]


def _on_the_parents_scale(told: StartStatistics, plan: ModelPlan, old: ModelPlan, fixed: Any) -> StartStatistics:
    """Means of new genes at the depth of the parent's average cell, told by the genes that both know."""
    start = fixed.get("start", {})
    if "mean" not in start:
        return told
    known = _known_genes(plan.panel, old.panel)
    place = old.layout.place[known[known >= 0]]
    before = np.asarray(start["mean"][...]).reshape(-1)[place].sum()
    after = told.mean[known >= 0].sum()
    return dataclasses.replace(told, mean=told.mean * (before / after)) if before > 0 and after > 0 else told
