"""Count tokens: the exact quantisation q(x) of raw UMI counts and its inverse (paper section 1).

Tokens 0..99 are the counts themselves, 100..189 hold 100..999 in bins of 10, 190..279 hold 1,000..9,999 in bins of
100, and 280 (OVERFLOW) everything above. MASK and ABSENT are input tokens only: MASK hides a gene that is to be
predicted, ABSENT marks a panel gene that a source did not measure. Works on numpy and jax arrays, without importing
jax.
"""

from typing import Any

import numpy as np

VOCAB_SIZE = 281
"""Number of output tokens, OVERFLOW included."""
OVERFLOW = 280
MASK = 281
ABSENT = 282
INPUT_VOCAB_SIZE = 283
"""Number of tokens the network can read: outputs, MASK, ABSENT."""
OVERFLOW_COUNT = 10_000
"""The count that OVERFLOW decodes to."""


def encode_counts(counts: Any) -> Any:
    """Quantise raw counts to tokens by integer comparison, exactly as paper section 1.

    Args:
        counts: integer array of any shape (UMI counts >= 0), numpy or jax.

    Returns:
        uint16 tokens of the same shape, of the same array library.

    Raises:
        TypeError: the array is not of an integer type.
        ValueError: a numpy array holds a negative count.
    """
    xp = _namespace(counts)
    _require_integers(counts, xp, "counts")
    if xp is np and counts.size and counts.min() < 0:
        raise ValueError(f"counts must be >= 0; the smallest is {counts.min()}. Pass raw UMI counts.")
    if counts.dtype.itemsize < 4:
        counts = counts.astype(np.int32)  # the arithmetic below would overflow a narrow type
    two_digits = xp.where(counts < 1000, 90 + counts // 10, 180 + counts // 100)
    tokens = xp.where(counts < 100, counts, two_digits)
    return xp.where(counts > 9999, OVERFLOW, tokens).astype(np.uint16)


def decode_tokens(tokens: Any, *, rng: Any = None) -> Any:
    """Turn output tokens back into counts: exact below 100, inside the token's bin above.

    Args:
        tokens: integer array of output tokens (0..280), numpy or jax.
        rng: None decodes a bin to its midpoint `lo + width // 2`; a `numpy.random.Generator` (numpy arrays) or a jax
            key (jax arrays) draws uniformly inside the bin. OVERFLOW decodes to 10,000 either way.

    Returns:
        int32 counts of the same shape, of the same array library.

    Raises:
        TypeError: the array is not of an integer type, or `rng` does not fit the array library.
        ValueError: a numpy array holds MASK, ABSENT or a number that is no token. (A jax array decodes those to -1.)
    """
    xp = _namespace(tokens)
    _require_integers(tokens, xp, "tokens")
    if xp is np and tokens.size and (tokens.min() < 0 or tokens.max() > OVERFLOW):
        raise ValueError("only output tokens 0..280 decode to counts; MASK and ABSENT stand for no count.")
    tokens = tokens.astype(np.int32)
    low, width = _bin(tokens, xp)
    offset = width // 2 if rng is None else _uniform_below(width, xp, rng)
    counts = low + offset
    if xp is np:
        return counts.astype(np.int32)
    return xp.where((tokens < 0) | (tokens > OVERFLOW), -1, counts).astype(np.int32)


def token_bins() -> tuple[np.ndarray, np.ndarray]:
    """The smallest count and the number of counts of every output token: two int32 arrays (281,).

    OVERFLOW has no end; its width is given as 1 at count 10,000.
    """
    return _bin(np.arange(VOCAB_SIZE, dtype=np.int32), np)


def _bin(tokens: Any, xp: Any) -> tuple[Any, Any]:
    tens, hundreds = 10 * (tokens - 90), 100 * (tokens - 180)
    low = xp.where(tokens < 100, tokens, xp.where(tokens < 190, tens, hundreds))
    width = xp.where(tokens < 100, 1, xp.where(tokens < 190, 10, 100))
    overflow = tokens >= OVERFLOW
    return xp.where(overflow, OVERFLOW_COUNT, low), xp.where(overflow, 1, width)


def _uniform_below(width: Any, xp: Any, rng: Any) -> Any:
    if xp is np:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(
                "numpy tokens are drawn with a numpy.random.Generator: decode_tokens(tokens, rng=default_rng(0))."
            )
        return rng.integers(0, width, dtype=np.int32)
    if isinstance(rng, np.random.Generator):
        raise TypeError("jax tokens are drawn with a jax key: decode_tokens(tokens, rng=jax.random.key(0)).")
    import jax

    return jax.random.randint(rng, width.shape, 0, width, dtype=np.int32)


def _namespace(array: Any) -> Any:
    if not hasattr(array, "__array_namespace__"):
        raise TypeError(f"expected a numpy or jax array, got {type(array).__name__}. Wrap it: numpy.asarray(...).")
    return array.__array_namespace__()


def _require_integers(array: Any, xp: Any, what: str) -> None:
    if not xp.isdtype(array.dtype, "integral"):
        raise TypeError(
            f"{what} must be of an integer type, got {array.dtype}. Cast them once they are known to be whole."
        )
