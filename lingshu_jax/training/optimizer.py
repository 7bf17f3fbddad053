"""AdamW, global-norm clipping, warm-up then cosine (paper section 5)."""

import functools
from typing import Any

import jax
import optax

from lingshu_jax.training.config import OptimizerConfig
from lingshu_jax.training.inherit import frozen_mask


def make_optimizer(
    config: OptimizerConfig, steps: int, *, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps; what a `frozen` pattern names stays as it is, moments and all."""
    optimizer = _adamw(config, steps)
    if not frozen:
        return optimizer
    still = optax.masked(optax.set_to_zero(), functools.partial(frozen_mask, patterns=frozen))
    # Before, so that neither the moments nor the clipping see their gradients; after, for the weight decay.
    return optax.chain(still, optimizer, still)


def _adamw(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=_matrices
        ),
    )


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
