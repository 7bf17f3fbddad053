"""The training job: store, split and experiment in; a run folder with checkpoints out; resumes by itself."""

import contextlib
import dataclasses
import functools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from data_pipelines import CellStore, Split, condition_rows, make_loader
from data_pipelines.errors import InputError
from data_pipelines.loader import Loader
from data_pipelines.statistics import Statistics
from data_pipelines.target_features import COEXPRESSION, read_targets
from experiments import runs
from experiments.assembly import ModelPlan, optimizer_of, plan, start_statistics
from experiments.blueprint import Blueprint, Cells
from experiments.config_json import to_json
from experiments.environment import describe, enable_compilation_cache
from experiments.experiment import Experiment
from experiments.hardware import here
from experiments.inheritance import (
    Parent,
    check_frozen,
    check_parent,
    continued_plan,
    find_parent,
    inherit,
    inherited_plan,
    taken_over,
)
from experiments.load import warn
from experiments.origin import Origin, begun_with
from experiments.profiling import Profile, ProfiledSteps
from experiments.registry.aliases import read_alias
from experiments.registry.recorder import Recorder
from experiments.reporting import Scale, SilentReporter, TrainingReporter
from experiments.settings_diff import settings_diff
from experiments.stopping import SharedStopRequest, StopRequest
from experiments.storage import Folder, folder_at, storage_of
from experiments.training_cells import TrainingCells
from lingshu_jax.evaluation.bound import bound_of_cells
from lingshu_jax.kernels.attention import IMPLEMENTATIONS
from lingshu_jax.model import TargetFeatures
from lingshu_jax.parallel.distributed import is_leader, lead, several, shared_fate
from lingshu_jax.parallel.mesh import compiled_for, make_mesh, replicated, to_global
from lingshu_jax.tokens import ABSENT, encode_counts
from lingshu_jax.training.checkpoint import CheckpointError, Checkpoints, SaveFailed, abstract_like
from lingshu_jax.training.loop import Fit, Outcome, run
from lingshu_jax.training.state import ModelParts, TrainState, abstract_state, init_state
from lingshu_jax.training.step import make_step
from lingshu_jax.training.watch import TooManySkipped
from lingshu_jax.training.write_errors import silence_orbax

REGISTRY_SECONDS = 10.0
"""At the end, the longest wait for the registry: whoever asked the run to stop does not wait for ever either."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One call of `lingshu train`."""

    experiment: Experiment
    store: CellStore
    split: Split
    root: Folder
    """RUNS: where run folders live."""
    name: str | None = None
    """Run name instead of the derived id."""
    new: bool = False
    """Start another run beside an existing one of the same settings."""
    profile: ProfiledSteps | None = None
    """Steps to trace."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How the job ended."""

    run: runs.RunFolder
    step: int
    outcome: Outcome
    was_finished: bool = False
    """The run was complete before this call."""


def train(job: TrainJob) -> TrainResult:
    """Train, or go on training, until the last step or a request to stop.

    Raises:
        InputError: settings, store and split do not fit together, or the run folder belongs to other ones.
    """
    started = time.monotonic()
    silence_orbax()
    blueprint, hardware = Blueprint(job.experiment, Cells.of(job.store)), here()
    mesh = make_mesh(blueprint.mesh(hardware))
    _check_attention(blueprint, mesh)
    _check_features(job)
    enable_compilation_cache(storage_of(job.root).compilation_cache(job.root))
    origin = _origin(job, blueprint)
    folder = runs.RunFolder(folder_at(lead("run", lambda: str(_open_run(job, origin).path))))
    config = job.experiment.training
    with contextlib.ExitStack() as stack:
        recorder = stack.enter_context(Recorder(folder, training=True, patience=REGISTRY_SECONDS))
        lead("lock", lambda: stack.enter_context(runs.locked(folder)))
        try:
            checkpoints = Checkpoints(folder.checkpoints, keep=config.keep, keep_every=config.keep_every, warn=warn)
        except CheckpointError as error:
            raise InputError(str(error)) from error
        stack.enter_context(contextlib.closing(checkpoints))
        latest = checkpoints.latest_step()
        _check_reach(job, folder, latest)
        if latest is not None and latest == config.steps:
            return TrainResult(folder, latest, Outcome.FINISHED, was_finished=True)
        scale = Scale(steps=config.steps, genes=job.store.n_genes, flops=blueprint.flops(hardware), hardware=hardware)
        reporter = TrainingReporter(folder, scale, started=started) if is_leader() else SilentReporter()
        if is_leader():
            recorder.start()
        stack.enter_context(reporter)
        with shared_fate():
            return _train(job, folder, checkpoints, mesh, reporter, origin)


def _check_reach(job: TrainJob, folder: runs.RunFolder, latest: int | None) -> None:
    """Refuse a checkpoint beyond the last step; say that steps which are done are not profiled."""
    steps = job.experiment.training.steps
    if latest is not None and latest > steps:
        raise InputError(
            f"{folder.checkpoints / str(latest)} lies beyond the run's last step, {steps:,}: another run's. Move it "
            f"away, or train under another --run name."
        )
    if job.profile is not None and job.profile.start < (latest or 0) < steps and is_leader():
        warn(f"the run goes on at step {latest:,}: those of --profile that lie before are not traced.")


def _check_attention(blueprint: Blueprint, mesh: jax.sharding.Mesh) -> None:
    model = blueprint.experiment.model
    positions = blueprint.layout.patches + len(blueprint.vocabulary.fields) + 1
    shape = (1, positions, model.heads, model.width // model.heads)
    with compiled_for(mesh):
        reason = IMPLEMENTATIONS[model.attention].unsupported(shape, jnp.dtype(model.dtype))
    if reason:
        raise InputError(f"--model.attention {model.attention} cannot be used here: {reason}. Take auto or xla.")


def _check_features(job: TrainJob) -> None:
    """Refuse a file of target features that cannot be read before there is a run folder."""
    features = job.experiment.model.features
    if isinstance(features, TargetFeatures) and features.source != COEXPRESSION:
        read_targets(features.source)


def _train(
    job: TrainJob,
    folder: runs.RunFolder,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
    reporter: TrainingReporter | SilentReporter,
    origin: Origin | None,
) -> TrainResult:
    experiment, config = job.experiment, job.experiment.training
    cells = TrainingCells(job.store, job.split)
    statistics = cells.statistics()
    model = experiment.model
    fresh = plan(experiment, statistics, cells.targets(model.features), cells.coexpressed(model))
    model_plan, parent = (fresh, None) if origin is None else _taken_over(job, fresh, origin, checkpoints)
    tx = optimizer_of(experiment, model_plan.vocabulary)
    abstract = abstract_state(model_plan.build, tx, mesh)
    masks, mask_of = np.unique(job.store.measured, axis=0, return_inverse=True)
    with (
        _loader(job, model_plan) as loader,
        Profile(job.profile, folder.path / "profile") as profile,
        SharedStopRequest() if several() else StopRequest() as stop,
    ):
        if checkpoints.latest_step() is None:
            state, parts = _begin(cells, model_plan, statistics, parent, tx, mesh)
        else:
            parts = model_plan.parts(mesh)
            try:
                restored = checkpoints.restore(abstract, abstract_like(parts.fixed))
            except CheckpointError as error:
                raise InputError(str(error)) from error
            state, parts = restored.state, ModelParts(parts.graph, restored.fixed)
            loader.set_state(restored.loader)
        reporter.begin(int(state.step))
        step = make_step(
            parts,
            tx,
            jax.device_put(masks, replicated(mesh)),
            config,
            seed=experiment.seed,
            mesh=mesh,
            state_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract),
        )
        fit = Fit(
            config=config,
            step=step,
            batches=loader,
            to_device=functools.partial(_to_device, mask_of=mask_of, mesh=mesh),
            evaluate=_validation(job, model_plan, parts),
            checkpoints=checkpoints,
            fixed=parts.fixed,
            meta=model_plan.to_json(),
            reporter=reporter,
            should_stop=stop.requested,
            agree=lambda mine: lead("agree", lambda: mine),
            before_step=profile.before_step,
        )
        with _failures_told(checkpoints):
            state, outcome = run(fit, state)
    reporter.finish(int(state.step))
    return TrainResult(folder, int(state.step), outcome)


@contextlib.contextmanager
def _failures_told(checkpoints: Checkpoints) -> Iterator[None]:
    """Say what ended training and where it goes on from."""
    try:
        yield
    except TooManySkipped as error:
        raise InputError(
            f"stopped: {error}. {_last(checkpoints)} Starting again gives the same unless a device is faulty: train "
            f"with a lower --optimizer.learning-rate, or look at the batch."
        ) from error
    except SaveFailed as error:
        raise InputError(
            f"stopped: {error}. {_last(checkpoints)} Make room, and give the same command again."
        ) from error


def _last(checkpoints: Checkpoints) -> str:
    step = checkpoints.latest_step()
    return "No checkpoint was saved before." if step is None else f"The checkpoint of step {step:,} is kept."


def _loader(job: TrainJob, model_plan: ModelPlan) -> Loader:
    experiment = job.experiment
    return make_loader(
        job.store,
        job.split.train,
        model_plan.vocabulary,
        batch_size=experiment.training.batch_size,
        seed=experiment.seed,
        workers=experiment.data.workers,
        balance=experiment.data.balance,
        evenness=experiment.data.evenness,
    )


def _begin(
    cells: TrainingCells,
    model_plan: ModelPlan,
    statistics: Statistics,
    parent: Parent | None,
    tx: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
) -> tuple[TrainState, ModelParts]:
    """State before step 0 and fixed arrays, random or inherited."""
    rates_at = functools.partial(cells.label_rates, model_plan, statistics)
    if parent is not None:
        return inherit(parent, model_plan, statistics, rates_at, tx, mesh)
    parts = model_plan.parts(mesh, start_statistics(statistics, model_plan, rates_at(statistics.mean)))
    return init_state(model_plan.build, tx, mesh), parts


def _origin(job: TrainJob, blueprint: Blueprint) -> Origin | None:
    """What the run begins with: what it began with, where the same command has started it before."""
    experiment = job.experiment
    if experiment.init.source is None:
        return None
    check_frozen(experiment.init.freeze, blueprint.parameters)
    asked = (experiment, job.store.hash, job.split.hash, job.root, job.name)
    record = None if job.new else lead("origin", lambda: begun_with(*asked))
    if record is not None:
        return Origin(record)
    parent = find_parent(experiment.init, job.root)
    check_parent(parent, experiment, job.store.panel, blueprint.vocabulary)
    return Origin(parent.record(), parent)


def _taken_over(
    job: TrainJob, fresh: ModelPlan, origin: Origin, checkpoints: Checkpoints
) -> tuple[ModelPlan, Parent | None]:
    """The plan of a fine-tuned model, and its parent where the run has saved nothing yet."""
    if checkpoints.latest_step() is not None:
        return continued_plan(job.experiment, fresh, ModelPlan.from_json(checkpoints.meta())), None
    parent = origin.read(job.experiment, job.root)
    if is_leader():
        print("\n".join(taken_over(parent, fresh.panel, fresh.vocabulary)), flush=True)
    return inherited_plan(job.experiment, fresh, parent), parent


def _open_run(job: TrainJob, origin: Origin | None) -> runs.RunFolder:
    identity = runs.run_id(job.experiment, job.store.hash, job.split.hash, origin and origin.hash)
    name = identity if job.name is None else runs.check_name(job.name)
    if job.new:
        name = f"{name}-{uuid.uuid4().hex[:4]}"
    if read_alias(job.root, name) is not None:
        raise InputError(f"--run {name!r} is an alias of another run. Choose another name, or `lingshu runs unalias`.")
    config = {
        "experiment": to_json(job.experiment),
        "identity": identity,
        "store": str(job.store.path),
        "store_hash": job.store.hash,
        "split": job.split.name,
        "split_hash": job.split.hash,
        "parent": origin and origin.record,
    }
    folder = runs.create(job.root / job.experiment.name / name, config, describe())
    there = folder.config()
    if there["identity"] != identity and not _in_another_precision(job, folder, origin):
        raise InputError(
            f"run {name!r} was started with other settings. Use the same ones, or another --run name.\n"
            f"{settings_diff(there, config)}"
        )
    return folder


def _in_another_precision(job: TrainJob, folder: runs.RunFolder, origin: Origin | None) -> bool:
    """Whether a run was started with these settings but for the types that it computes in; says so."""
    before = folder.experiment()
    model = dataclasses.replace(job.experiment.model, dtype=before.model.dtype)
    training = dataclasses.replace(job.experiment.training, parameter_dtype=before.training.parameter_dtype)
    experiment = dataclasses.replace(job.experiment, model=model, training=training)
    identity = runs.run_id(experiment, job.store.hash, job.split.hash, origin and origin.hash)
    if folder.config()["identity"] != identity:
        return False
    was, now = before.training.parameter_dtype, job.experiment.training.parameter_dtype
    warn(
        f"run {folder.id} was started with --model.dtype {before.model.dtype} --training.parameter-dtype {was} and "
        f"goes on with {job.experiment.model.dtype} and {now}: its losses are not those that it would have had."
    )
    return True


def _to_device(batch: dict[str, Any], *, mask_of: np.ndarray, mesh: jax.sharding.Mesh) -> dict[str, Any]:
    used = {name: batch[name] for name in ("genes", "counts", "position", "conditions")}
    return to_global(used | {"measured": mask_of[batch["source"]]}, mesh)


def _validation(job: TrainJob, model_plan: ModelPlan, parts: ModelParts) -> Any:
    """Held-out bound of the averaged weights on a fixed sample of validation cells; nothing where there are none."""
    config, rows = job.experiment.training, known_rows(job.store, job.split.val, model_plan)
    if not len(rows):
        return lambda state: {}
    chosen = np.sort(np.random.default_rng(job.experiment.seed).permutation(rows)[: config.evaluate_cells])
    conditions = condition_rows(job.store, chosen, model_plan.vocabulary)

    def evaluate(state: TrainState) -> dict[str, float]:
        nats, _ = bound_of_cells(
            parts.merge(state.ema),
            functools.partial(tokens_of, job.store),
            chosen,
            conditions,
            seed=job.experiment.seed,
            draws=config.evaluate_draws,
            cells_per_device=min(64, -(-len(chosen) // jax.device_count())),
        )
        return {"val_nats": float(nats.mean()), "val_cells": float(len(chosen))}

    return evaluate


def known_rows(store: CellStore, rows: np.ndarray, model_plan: ModelPlan) -> np.ndarray:
    """Those of the rows whose every label is in the model's vocabulary."""
    known = np.ones(len(rows), bool)
    for field in model_plan.vocabulary.labelled:
        labels = store.obs[field.name].iloc[rows].astype(str)
        known &= labels.isin({*field.labels, *field.controls}).to_numpy()
    return rows[known]


def tokens_of(store: CellStore, rows: np.ndarray) -> np.ndarray:
    """Tokens (n, G) of stored cells in panel order, uint16; genes that a cell's source did not measure are ABSENT."""
    tokens = encode_counts(store.counts(rows).toarray())
    tokens[~store.measured[store.source[rows]]] = ABSENT
    return tokens
