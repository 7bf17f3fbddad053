"""The training objective (paper section 2): masked cross-entropy weighted by 1/t, a bound on -log p."""

# B cells, G genes, P patches, S genes per patch, V output tokens

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from lingshu_jax.diffusion.corruption import corrupt, mask_rates, silence
from lingshu_jax.kernels.gene_head import KnownPlaces, weighted_cross_entropy
from lingshu_jax.model.conditions import Conditions
from lingshu_jax.model.denoiser import Denoiser

_SILENCE_STREAM = 1


def masked_loss(
    logits: Float[Array, "B G V"], tokens: Int[Array, "B G"], masked: Bool[Array, "B G"], t: Float[Array, "B"]
) -> Float[Array, "B"]:
    """Per cell: (1/t) * sum over masked genes of -log p(token), nats. Its mean over t and masks bounds -log p(cell)."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)
    picked = jnp.take_along_axis(log_p, jnp.minimum(tokens, logits.shape[-1] - 1)[..., None].astype(jnp.int32), axis=-1)
    return -jnp.where(masked, picked[..., 0], 0.0).sum(axis=1) / t


def training_loss(
    model: Denoiser,
    tokens: Int[Array, "B P S"],
    conditions: Conditions,
    position: Int[Array, "B"],
    step_key: Key[Array, ""],
    known: KnownPlaces | None = None,
    token_noise: float = 0.0,
) -> Float[Array, ""]:
    """Mean over cells of the masked loss, divided by the panel size: nats per gene.

    `known` holds the places of expressed and of ABSENT genes, where the caller has them. `token_noise` is the share of
    visible expressed genes that the model sees as not expressed.
    Noise is keyed by (step, position in the global batch), so that it does not depend on how many hosts feed the batch.
    """
    rate_key, mask_key = jax.random.split(step_key)
    t = mask_rates(rate_key, position)
    keys = jax.vmap(lambda i: jax.random.fold_in(mask_key, i))(position)
    noised, masked = corrupt(tokens, t, keys)
    if token_noise:
        noised = silence(noised, token_noise, jax.vmap(lambda key: jax.random.fold_in(key, _SILENCE_STREAM))(keys))
    weights = masked / (t * (tokens.shape[0] * model.genes))[:, None, None]
    return weighted_cross_entropy(model.head_patches(noised, conditions, known), tokens, weights)
