import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lingshu_jax.model import (
    DenoiserConfig,
    DepthNB,
    KeepInputs,
    KeepProducts,
    LogFrequency,
    LowRankFactors,
    NoBias,
    NoFactors,
)
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import Denoiser
from lingshu_jax.model.factors import LARGEST_SHIFT
from lingshu_jax.model.negative_binomial import log_pmf, log_token_mass
from lingshu_jax.model.start import WIDEST_DRAW, log_frequencies
from lingshu_jax.tokens import ABSENT, MASK, VOCAB_SIZE, token_bins
from lingshu_jax.vocabulary import CONTROL_ROW, PAD_ROW, ConditionVocabulary
from tests.lingshu_jax.tiny import CONFIG, GENES, cells, conditions, counts, denoiser, statistics


def masked(n=6, share=0.5):
    tokens = cells(n)
    return jnp.where(jax.random.uniform(jax.random.key(1), tokens.shape) < share, MASK, tokens)


STARTS = {"none": NoBias(), "log-frequency": LogFrequency(), "depth": DepthNB()}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_logits_start_where_the_start_says(start):
    model = denoiser(start=start, factors=NoFactors(), vocabulary=ConditionVocabulary())
    log_p = jax.nn.log_softmax(model(jnp.full((2, GENES), MASK)), axis=-1)
    s = statistics()
    expected = {
        "NoBias": np.full((GENES, VOCAB_SIZE), -np.log(VOCAB_SIZE)),
        "LogFrequency": log_frequencies(s.histogram),
        "DepthNB": log_token_mass(s.mean, s.dispersion),
    }[type(start).__name__]
    expected = jax.nn.log_softmax(expected, axis=-1)
    likely = np.asarray(expected) > -20
    np.testing.assert_allclose(np.where(likely, log_p[0], 0), np.where(likely, expected, 0), atol=2e-3)


def test_token_masses_are_sums_over_their_bins():
    mean, dispersion = np.array([0.3, 40.0, 900.0]), np.array([2.0, 0.5, 5.0])
    mass = np.exp(log_token_mass(mean, dispersion))
    np.testing.assert_allclose(mass.sum(1), 1.0, atol=1e-3)
    low, width = token_bins()
    for token in (0, 99, 100, 189, 190, 230):
        inside = np.arange(low[token], low[token] + width[token])
        expected = np.exp(log_pmf(inside[:, None].astype(float), mean, dispersion)).sum(0)
        np.testing.assert_allclose(mass[:, token], expected, rtol=2e-3, atol=1e-12)


def test_depth_is_the_posterior_mean_of_the_visible_genes():
    model = denoiser()
    everything_masked = model.patches(jnp.full((3, GENES), MASK))
    np.testing.assert_allclose(model.start.depth(everything_masked, {}), 1.0)
    rows = {"line": jnp.array([1, 2, 0]), "target": jnp.array([[1, PAD_ROW], [2, 3], [0, PAD_ROW]])}
    line, target = (statistics().depth_effects[name] for name in ("line", "target"))
    together = target[2] + target[3] - target[CONTROL_ROW]  # members of a set add what they do beyond the control
    expected = [line[1] + target[1], line[2] + together, line[0] + target[0]]
    np.testing.assert_allclose(model.start.depth(everything_masked, rows), np.exp(expected), rtol=1e-5)
    x = counts(200, seed=5)
    depth = np.asarray(model.start.depth(model.patches(cells(200, seed=5)), {}))
    library = x.sum(1) / statistics().mean.sum()
    assert np.corrcoef(np.log(depth), np.log(library + 0.01))[0, 1] > 0.9
    assert np.log(depth).std() < np.log(library + 0.01).std()  # shrunk towards the prior


def test_drawn_depth_spreads_as_the_prior_says_and_cannot_run_away():
    start, n = denoiser().start, 4000
    keys = jax.random.split(jax.random.key(0), n)
    sd = np.sqrt(statistics().depth_log_variance)
    blank = denoiser().patches(jnp.full((n, GENES), MASK))
    drawn = np.log(np.asarray(start.depth(blank, {}, keys)))
    np.testing.assert_allclose(drawn.std(), sd, rtol=0.05)
    np.testing.assert_allclose(np.exp(drawn).mean(), 1.0, rtol=0.05)
    absurd = jnp.full_like(blank, VOCAB_SIZE - 1)  # every gene at its largest count
    np.testing.assert_allclose(np.log(start.depth(absurd, {}, keys)), WIDEST_DRAW * sd, rtol=1e-4)


def test_depth_moves_the_start_as_a_negative_binomial_of_scaled_mean():
    model = denoiser(factors=NoFactors())
    tokens = cells(1, seed=3).at[0, 0].set(MASK)
    s, depth = statistics(), float(model.start.depth(model.patches(tokens), conditions(1))[0])
    log_p = jax.nn.log_softmax(model(tokens, conditions(1))[0, 0])
    shift = float(model.start.told(conditions(1)).reshape(-1)[model.place[0]])
    assert abs(shift) > 0.05
    expected = log_pmf(np.arange(60.0), s.mean[0] * depth * np.exp(shift), s.dispersion[0])
    np.testing.assert_allclose(log_p[:60], expected, atol=5e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"start": NoBias(), "zero_origin": False},
        {"remat": KeepInputs()},
        {"remat": KeepProducts()},
        {"head_tokens": 104},
    ],
    ids=str,
)
def test_nll_of_the_fused_path_is_that_of_the_logits(settings):
    model, tokens = denoiser(trained=True, **settings), masked()
    log_p = jax.nn.log_softmax(model(tokens, conditions(6)), axis=-1)
    expected = -jnp.take_along_axis(log_p, cells(6)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(model.token_nll(tokens, conditions(6), cells(6)), expected, rtol=1e-4, atol=1e-4)


def test_the_attention_that_is_asked_for_computes_it():
    with pytest.raises(ValueError, match=r"MosaicGpu cannot compute attention here: a head of 8"):
        denoiser(attention="mosaic_gpu")(masked(1), conditions(1))


def test_every_visible_gene_and_condition_reaches_every_masked_gene():
    model, tokens = denoiser(trained=True), masked(1)
    before = model(tokens, conditions(1))[0]
    for gene in range(0, GENES, 5):
        if tokens[0, gene] != MASK:
            assert not np.allclose(model(tokens.at[0, gene].add(3), conditions(1))[0], before, atol=1e-4)
    for field in ("line", "target"):
        other = {**conditions(1), field: conditions(1)[field] + 1}
        assert not np.allclose(model(tokens, other)[0], before, atol=1e-4)


def test_absent_is_not_zero_and_not_seen_as_a_gene():
    model = denoiser(trained=True)
    zero = masked(1).at[0, 3].set(0)
    absent = zero.at[0, 3].set(ABSENT)
    assert not np.allclose(model(absent, conditions(1)), model(zero, conditions(1)), atol=1e-4)
    np.testing.assert_allclose(
        model.start.depth(model.patches(absent), {}) < model.start.depth(model.patches(zero), {}), False
    )


def test_a_patch_without_a_measured_gene_is_hidden_from_all_others():
    model = denoiser(trained=True)
    layout = np.asarray(model.gene_at[...])
    genes = [g for g in layout[0] if g < GENES]
    tokens = masked(1).at[0, jnp.array(genes)].set(ABSENT)
    head = model.head_patches(model.patches(tokens), conditions(1))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params["patch_embedding"][...] = params["patch_embedding"][...].at[0].add(10.0)
    changed = nnx.merge(graph, params, rest).head_patches(model.patches(tokens), conditions(1))
    np.testing.assert_array_equal(head.states[:, 1:], changed.states[:, 1:])


def test_gene_order_is_only_a_layout():
    """Two models that differ in where genes sit agree when their weights are moved accordingly."""
    first = denoiser(trained=True, genes_per_patch=GENES)
    order = np.random.default_rng(0).permutation(GENES)
    layout = GeneLayout(np.asarray(first.place[...])[order].astype(np.int32), GENES)
    s = statistics()
    moved = dataclasses.replace(
        s,
        histogram=s.histogram[order],
        mean=s.mean[order],
        dispersion=s.dispersion[order],
        rates=dataclasses.replace(s.rates, basis=s.rates.basis[order]),
    )
    config = first.config
    second = Denoiser(config, layout, first.conditions, statistics=moved, rngs=nnx.Rngs(0))
    graph, _, fixed = nnx.split(second, nnx.Param, ...)
    second = nnx.merge(graph, nnx.state(first, nnx.Param), fixed)
    tokens = masked(4)
    np.testing.assert_allclose(
        second(tokens[:, order], conditions(4)), first(tokens, conditions(4))[:, order], atol=1e-3
    )


def test_a_set_of_perturbations_is_the_sum_of_its_members():
    model, tokens = denoiser(trained=True), masked(2)
    single = model(tokens, {"line": jnp.array([1, 1]), "target": jnp.array([2, 3])})
    as_sets = model(tokens, {"line": jnp.array([1, 1]), "target": jnp.array([[2, PAD_ROW], [3, PAD_ROW]])})
    np.testing.assert_allclose(as_sets, single, atol=1e-5)
    pair = {"line": jnp.array([1, 1]), "target": jnp.array([[2, 3], [3, 2]])}
    np.testing.assert_allclose(*model(tokens[:1].repeat(2, 0), pair), atol=1e-3)


def test_missing_and_unknown_conditions_are_named():
    model = denoiser()
    with pytest.raises(ValueError, match=r"missing \['target'\], unknown \['dose'\]"):
        model(masked(1), {"line": jnp.ones(1, int), "dose": jnp.ones(1, int)})


def test_distances_of_representations_are_those_of_log_rates():
    factors = denoiser(trained=True, vocabulary=ConditionVocabulary()).factors
    states = jax.random.normal(jax.random.key(0), (5, CONFIG.width))
    shifts, found = factors.log_rate(states, {}).reshape(5, -1), factors.coordinates(states)
    apart, near = (np.linalg.norm(np.asarray(x[:, None] - x), axis=-1) for x in (shifts, found))
    assert apart.max() > 0 and float(shifts.max()) < LARGEST_SHIFT
    np.testing.assert_allclose(near, apart, rtol=1e-2, atol=1e-3 * apart.max())


def test_a_model_without_factors_is_represented_by_its_patches():
    model = denoiser(trained=True, factors=NoFactors())
    assert model.embed(cells(3), conditions(3)).shape == (3, CONFIG.width)


def test_a_model_without_conditions_takes_none():
    model = denoiser(vocabulary=ConditionVocabulary(), start=NoBias())
    assert model(masked(2)).shape == (2, GENES, VOCAB_SIZE)


def test_bfloat16_follows_float32():
    tokens = masked(4)
    narrow, wide = denoiser(trained=True, dtype="bfloat16"), denoiser(trained=True)
    nll = [m.token_nll(tokens, conditions(4), cells(4)) for m in (narrow, wide)]
    assert float(jnp.abs(nll[0] - nll[1]).mean() / jnp.abs(nll[1]).mean()) < 1e-2


def test_contradictory_settings_are_refused():
    for settings, message in (
        ({"width": 30, "heads": 4}, "multiple of 2 \\* heads = 8. Nearest: 32"),
        ({"start": NoBias(), "factors": LowRankFactors()}, "DepthNB start"),
        ({"start": NoBias(), "factors": NoFactors(), "head_tokens": 100}, "every token must be learned"),
        ({"blocks": 0}, "model.blocks must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            DenoiserConfig(**{**{"start": CONFIG.start}, **settings})
