import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.tokens import ABSENT, MASK, OVERFLOW, VOCAB_SIZE, decode_tokens, encode_counts, token_bins

EVERY_COUNT = np.arange(20_001)


def formula(x: int) -> int:
    """q(x) as the paper writes it (section 1)."""
    if x < 100:
        return x
    if x > 9999:
        return 280
    k = math.floor(math.log10(x) + 1e-12)
    return 100 + 90 * (k - 2) + (x // 10 ** (k - 1) - 10)


def test_every_count_gets_the_token_of_the_formula():
    expected = np.array([formula(int(x)) for x in EVERY_COUNT])
    np.testing.assert_array_equal(encode_counts(EVERY_COUNT), expected)
    np.testing.assert_array_equal(jax.jit(encode_counts)(jnp.asarray(EVERY_COUNT)), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint32])
def test_any_integer_type_gives_the_same_tokens(dtype):
    counts = np.arange(0, min(20_000, np.iinfo(dtype).max) + 1).astype(dtype)
    np.testing.assert_array_equal(encode_counts(counts), encode_counts(counts.astype(np.int64)))


def test_tokens_keep_type_and_library():
    assert encode_counts(EVERY_COUNT).dtype == np.uint16
    assert isinstance(encode_counts(EVERY_COUNT), np.ndarray)
    tokens = encode_counts(jnp.asarray(EVERY_COUNT))
    assert isinstance(tokens, jax.Array) and tokens.dtype == jnp.uint16
    assert decode_tokens(tokens).dtype == jnp.int32


def test_decoding_is_exact_below_100_and_in_the_bin_above():
    decoded = decode_tokens(encode_counts(EVERY_COUNT))
    np.testing.assert_array_equal(decoded[:100], EVERY_COUNT[:100])
    np.testing.assert_array_equal(encode_counts(decoded), encode_counts(EVERY_COUNT))
    assert decode_tokens(np.array([100, 190, OVERFLOW])).tolist() == [105, 1050, 10_000]


@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_random_decoding_is_uniform_inside_the_bin(library):
    tokens = np.full(20_000, 190)  # 1,000 to 1,099
    if library == "numpy":
        drawn = decode_tokens(tokens, rng=np.random.default_rng(0))
    else:
        drawn = np.asarray(decode_tokens(jnp.asarray(tokens), rng=jax.random.key(0)))
    observed = np.bincount(drawn - 1000, minlength=100)
    assert len(observed) == 100
    assert ((observed - 200) ** 2 / 200).sum() < 150  # chi-square with 99 degrees of freedom, p = 0.0007


def test_bins_cover_every_count_once():
    low, width = token_bins()
    assert len(low) == VOCAB_SIZE
    np.testing.assert_array_equal(low[1:], (low + width)[:-1])


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array(["1"])])
def test_only_integers_are_counts(bad):
    with pytest.raises(TypeError, match="integer"):
        encode_counts(bad)


def test_negative_counts_and_input_tokens_are_refused():
    with pytest.raises(ValueError, match=">= 0"):
        encode_counts(np.array([3, -1]))
    for token in (MASK, ABSENT, -1):
        with pytest.raises(ValueError, match="MASK and ABSENT"):
            decode_tokens(np.array([token]))
        assert decode_tokens(jnp.array([token])).tolist() == [-1]


def test_a_generator_of_the_other_library_is_refused():
    with pytest.raises(TypeError, match="jax key"):
        decode_tokens(jnp.array([100]), rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"numpy\.random\.Generator"):
        decode_tokens(np.array([100]), rng=jax.random.key(0))
