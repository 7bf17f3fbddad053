"""One random key per cell, by what the cell is; and token draws into counts with it."""

# B cells, G genes

from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from lingshu_jax.tokens import decode_tokens

_DECODE_STREAM = 0x7FFF_FFFF
"""Fold of a cell's key that counts above 99 are drawn with; the sampler's own folds are its steps."""
_KEEP_STREAM = 0x7FFF_FFF0
"""Fold of a cell's key that says which of its genes are kept."""
_BLOCK = 256


def check_seed(seed: Any) -> None:
    """Refuse what is no seed of a request.

    Raises:
        InputError: it is no whole number of 32 bits.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError(f"a seed is a whole number from 0 to {2**32 - 1:,}, got {seed!r}.")


def cell_keys(seed: int, digests: np.ndarray, replicate: np.ndarray) -> Any:
    """One key per cell from (seed, digest of what it is, replicate index): never from the row of the output.

    Args:
        seed: of the request.
        digests: uint64 (B,).
        replicate: integers (B,).
    """
    import jax
    import jax.numpy as jnp

    def key(low: Any, high: Any, index: Any) -> Any:
        folded = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), low), high)
        return jax.random.fold_in(folded, index)

    low, high = (digests & 0xFFFFFFFF).astype(np.uint32), (digests >> np.uint64(32)).astype(np.uint32)
    return jax.vmap(key)(jnp.asarray(low), jnp.asarray(high), jnp.asarray(replicate, jnp.uint32))


def drawn_counts(tokens: np.ndarray, keys: Any) -> Any:
    """Counts (B, G) as CSR int32, drawn inside each token's bin with the cell's own key."""
    import jax

    def decode(cell: Any, key: Any) -> Any:
        return decode_tokens(cell, rng=jax.random.fold_in(key, _DECODE_STREAM))

    decode = jax.jit(jax.vmap(decode))
    parts = []
    for first in range(0, len(tokens), _BLOCK):
        last = min(first + _BLOCK, len(tokens))
        padded = np.minimum(np.arange(first, first + _BLOCK), last - 1)  # one compiled shape
        parts.append(scipy.sparse.csr_matrix(np.asarray(decode(tokens[padded], keys[padded]))[: last - first]))
    return scipy.sparse.vstack(parts, format="csr")


def kept_at_random(keys: Any, genes: int, share: float) -> np.ndarray:
    """bool (B, G): each gene of each cell with probability `share`, by the cell's own key."""
    import jax

    def draw(key: Any) -> Any:
        return jax.random.uniform(jax.random.fold_in(key, _KEEP_STREAM), (genes,))

    return np.asarray(jax.vmap(draw)(keys)) < share
