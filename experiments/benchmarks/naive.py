"""The paper's formulation of the gene layers, gene by gene: what the fused layers are compared with."""

# B cells, P patches, S genes per patch, D width, V output tokens

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lingshu_jax.diffusion.corruption import corrupt, mask_rates
from lingshu_jax.kernels.gene_head import PADDING, token_counts
from lingshu_jax.model import Denoiser
from lingshu_jax.tokens import ABSENT, VOCAB_SIZE


def naive_logits(model: Denoiser, tokens: Int[Array, "B P S"], conditions: Any) -> Float[Array, "B P S V"]:
    """fp32 logits by way of (B, P, S, D) and (B, P, S, V) arrays; everything between the gene layers is the model's."""
    dtype = jnp.dtype(model.config.dtype)
    embedding = model.embedding[...]
    relative = jnp.arange(embedding.shape[0])[:, None] == ABSENT
    rows = embedding - jnp.where(relative | model.config.zero_origin, embedding[0], 0.0)
    rows = jnp.concatenate([rows * model.config.input_scale, jnp.zeros_like(rows[:1])]).astype(dtype)
    embedded = rows[jnp.minimum(tokens, PADDING)]  # (B, P, S, D)
    down = model.w_down[...].astype(dtype)
    inputs = jnp.einsum("bpsd,sde->bpe", embedded, down, preferred_element_type=jnp.float32).astype(dtype)
    states, tilt = model.transform(inputs, tokens, conditions)
    genes = jnp.einsum("bpd,dse->bpse", states, model.w_up[...].astype(dtype))
    logits = jnp.einsum("bpse,ev->bpsv", genes, model.w_head[...].astype(dtype), preferred_element_type=jnp.float32)
    logits = jnp.pad(logits, ((0, 0), (0, 0), (0, 0), (0, VOCAB_SIZE - logits.shape[-1])))
    base = model.start.base()
    if base is not None:
        logits = logits + jax.lax.stop_gradient(jnp.moveaxis(base, 0, 1))
    return logits if tilt is None else logits + tilt[..., None] * token_counts()


def naive_training_loss(
    model: Denoiser, tokens: Int[Array, "B P S"], conditions: Any, position: Int[Array, "B"], step_key: Key[Array, ""]
) -> Float[Array, ""]:
    """`lingshu_jax.diffusion.objective.training_loss`, under the same noise."""
    rate_key, mask_key = jax.random.split(step_key)
    t = mask_rates(rate_key, position)
    noised, masked = corrupt(tokens, t, jax.vmap(lambda i: jax.random.fold_in(mask_key, i))(position))
    log_p = jax.nn.log_softmax(naive_logits(model, noised, conditions), axis=-1)
    nll = -jnp.take_along_axis(log_p, jnp.minimum(tokens, VOCAB_SIZE - 1)[..., None], axis=-1)[..., 0]
    return jnp.where(masked, nll / t[:, None, None], 0.0).sum() / (tokens.shape[0] * model.genes)
