"""One training step: a pure function of state and batch."""

# B cells, C expressed genes kept per cell

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key

from lingshu_jax.diffusion.objective import training_loss
from lingshu_jax.kernels.gene_head import KnownPlaces
from lingshu_jax.model import Denoiser, NoFeatures
from lingshu_jax.model.compression import absent_places, densify, places_of
from lingshu_jax.model.targets import drop_rows
from lingshu_jax.parallel.mesh import compiled_for, replicated
from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.gradients import loss_and_gradients
from lingshu_jax.training.state import ModelParts, TrainState
from lingshu_jax.vocabulary import NULL_ROW, ConditionVocabulary

Step = Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]
_DROPOUT_STREAM, _NOISE_STREAM, _ROW_STREAM, _NUMBER_STREAM = 0, 1, 2, 3


def make_step(
    parts: ModelParts,
    tx: optax.GradientTransformation,
    measured: Array,
    config: TrainingConfig,
    *,
    seed: int,
    mesh: Mesh,
    state_shardings: TrainState,
) -> Step:
    """The compiled step `(state, batch) -> (state, metrics)`; the state is donated.

    Args:
        parts: structure and fixed arrays of the denoiser.
        tx: the optimizer.
        measured: bool (M, G), the distinct masks of measured genes; a batch names each cell's mask.
        seed: all noise is keyed by (seed, step, position in the global batch).
        mesh: where the arrays lie.
        state_shardings: shardings of the state, in and out.
    """
    compiled = jit_step(parts.graph, tx, config, seed=seed, mesh=mesh, state_shardings=state_shardings)
    return lambda state, batch: compiled(state, batch, parts.fixed, measured)


def jit_step(
    graph: Any,
    tx: optax.GradientTransformation,
    config: TrainingConfig,
    *,
    seed: int,
    mesh: Mesh,
    state_shardings: TrainState,
) -> Any:
    """`(state, batch, fixed arrays, measured) -> (state, metrics)` under `jax.jit`, for running or for lowering."""

    def step(state: TrainState, batch: Any, fixed: Any, measured: Array) -> tuple[TrainState, dict[str, Array]]:
        model_parts = ModelParts(graph, fixed)
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params: Any, part: Any) -> Array:
            model = model_parts.merge(params)
            expressed = places_of(part["genes"], model.place[...], model.gene_at.size)
            tokens = densify(expressed, part["counts"], part["measured"], measured, model.gene_at[...])
            known = KnownPlaces(expressed, absent_places(measured, model.gene_at[...]), part["measured"])
            conditions = drop_perturbation(
                part["conditions"],
                model.conditions,
                part["position"],
                jax.random.fold_in(key, _DROPOUT_STREAM),
                config.condition_dropout,
            )
            conditions = drop_own_rows(conditions, model, part["position"], jax.random.fold_in(key, _ROW_STREAM))
            conditions = drop_numbers(
                conditions,
                model.conditions,
                part["position"],
                jax.random.fold_in(key, _NUMBER_STREAM),
                config.number_dropout,
            )
            noise_key = jax.random.fold_in(key, _NOISE_STREAM)
            return training_loss(model, tokens, conditions, part["position"], noise_key, known, config.token_noise)

        with compiled_for(mesh):
            loss, gradients = loss_and_gradients(
                loss_of, state.params, batch, microbatches=config.microbatches, dtype=config.parameter_dtype
            )
        return learn(state, loss, gradients, tx, config.ema_decay)

    return jax.jit(step, donate_argnums=0, out_shardings=(state_shardings, replicated(mesh)))


def learn(
    state: TrainState, loss: Array, gradients: Any, tx: optax.GradientTransformation, ema_decay: float
) -> tuple[TrainState, dict[str, Array]]:
    """The state after a step, and its metrics.

    Where the loss or a gradient is not finite the step is skipped: parameters, average and moments stay as they are,
    the step counter goes on.
    """
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = optax.incremental_update(params, state.ema, 1.0 - decay)
    learned = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        {"params": params, "ema": ema, "opt_state": opt_state},
        {"params": state.params, "ema": state.ema, "opt_state": state.opt_state},
    )
    skipped_in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
    metrics = {
        "loss": loss,
        "gradient_norm": norm,
        "update_norm": optax.tree.norm(updates),
        "parameter_norm": optax.tree.norm(state.params),
        "skipped": 1.0 - finite,
        "skipped_in_a_row": skipped_in_a_row,
    }
    skipped = state.skipped + jnp.where(finite, 0, 1)
    after = TrainState(step=state.step + 1, skipped=skipped, skipped_in_a_row=skipped_in_a_row, **learned)
    return after, metrics


def drop_own_rows(
    conditions: dict[str, Int[Array, "B"]], model: Denoiser, position: Int[Array, "B"], key: Key[Array, ""]
) -> dict[str, Int[Array, "B"]]:
    """Leave a random share of the cells with the target features of their perturbation alone."""
    field, features = model.conditions.perturbation, model.config.features
    if field is None or isinstance(features, NoFeatures) or model.features is None:
        return conditions
    rows = drop_rows(conditions[field.name], model.features, position, key, features.row_dropout)
    return {**conditions, field.name: rows}


def drop_perturbation(
    conditions: dict[str, Int[Array, "B"]],
    vocabulary: ConditionVocabulary,
    position: Int[Array, "B"],
    key: Key[Array, ""],
    rate: float,
) -> dict[str, Int[Array, "B"]]:
    """Replace the perturbation by null for a random share of the cells (condition dropout); other fields stay."""
    field = vocabulary.perturbation
    if field is None or rate == 0.0:
        return conditions
    draws = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(position)
    return {**conditions, field.name: jnp.where(draws < rate, NULL_ROW, conditions[field.name])}


def drop_numbers(
    conditions: dict[str, Array],
    vocabulary: ConditionVocabulary,
    position: Int[Array, "B"],
    key: Key[Array, ""],
    rate: float,
) -> dict[str, Array]:
    """Leave each number of a random share of the cells out (NaN), so that a request may do so; fields one by one."""

    def kept(number: Array, field: int) -> Array:
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), field))(position)
        return jnp.where(jax.vmap(jax.random.uniform)(keys) < rate, jnp.nan, number)

    return conditions | {field.name: kept(conditions[field.name], i) for i, field in enumerate(vocabulary.numbers)}
