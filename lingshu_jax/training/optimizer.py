"""AdamW, global-norm clipping, warm-up then cosine (paper section 5)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lingshu_jax.training.config import OptimizerConfig
from lingshu_jax.training.inherit import frozen_mask, parameter_name
from lingshu_jax.vocabulary import ConditionField

# R rows of a table, D width


def make_optimizer(
    config: OptimizerConfig, steps: int, *, frozen: tuple[str, ...] = (), perturbation: ConditionField | None = None
) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps.

    Args:
        config: its settings.
        steps: of the whole run.
        frozen: patterns; what they name stays as it is, moments and all.
        perturbation: the field whose labels' rows have a weight decay of their own, where the settings say one.
    """
    optimizer = _adamw(config, steps, perturbation)
    if not frozen:
        return optimizer
    still = optax.masked(optax.set_to_zero(), functools.partial(frozen_mask, patterns=frozen))
    # Before, so that neither the moments nor the clipping see their gradients; after, for the weight decay.
    return optax.chain(still, optimizer, still)


def _adamw(config: OptimizerConfig, steps: int, perturbation: ConditionField | None) -> optax.GradientTransformation:
    if config.perturbation_decay is None or perturbation is None:
        decay = optax.add_decayed_weights(config.weight_decay, mask=_matrices)
    else:
        decay = _decay_with_rows(config.weight_decay, config.perturbation_decay, perturbation)
    adamw = optax.chain(
        optax.scale_by_adam(b1=config.b1, b2=config.b2),
        decay,
        optax.scale_by_learning_rate(learning_rate(config, steps)),
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def _decay_with_rows(of_matrices: float, of_rows: float, perturbation: ConditionField) -> optax.GradientTransformation:
    """Weight decay of matrices, and another one of the rows (R, D) that perturbations have of their own: their labels',
    not those of null and control."""
    tables = {f"{part}.{perturbation.name}" for part in ("condition_tokens.tables", "factors.labels")}

    def decayed(path: Any, update: Any, leaf: Any) -> Any:
        if not is_matrix(path, leaf):
            return update
        if parameter_name(path) not in tables:
            return update + of_matrices * leaf
        own = jnp.arange(len(leaf))[:, None] >= perturbation.first_row
        return update + jnp.where(own, of_rows, of_matrices) * leaf

    def update(updates: Any, params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(decayed, updates, params)

    return optax.stateless(update)


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then cosine to `final_share` of the peak at the last step."""
    warmup = min(config.warmup_steps, max(1, steps // 2))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=config.learning_rate * config.final_share,
    )


def is_matrix(path: Any, leaf: Any) -> bool:
    """Whether a leaf of the parameters is a weight matrix: no norm (stacked over layers or not) and no vector."""
    return leaf.ndim > 1 and "norm" not in jax.tree_util.keystr(path)


def _matrices(params: Any) -> Any:
    """Weight decay is for weight matrices."""
    return jax.tree_util.tree_map_with_path(is_matrix, params)
