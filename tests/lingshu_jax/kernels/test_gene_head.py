import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lingshu_jax.kernels.gene_head import (
    PADDING,
    GeneHead,
    KnownPlaces,
    all_logits,
    cross_entropy,
    draw_listed,
    draw_token,
    guided_logits,
    listed,
    mean_counts,
    patch_inputs,
    revealed_inputs,
    tiles,
    token_counts,
    token_nll,
    token_table,
    weighted_cross_entropy,
)
from lingshu_jax.kernels.gene_head import table as table_module
from lingshu_jax.tokens import ABSENT, INPUT_VOCAB_SIZE, MASK, VOCAB_SIZE

B, P, S, D = 3, 5, 4, 8


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def tokens():
    rng = np.random.default_rng(0)
    mixed = rng.choice([0, 0, 1, 7, 120, 280, MASK, ABSENT], size=(B, P, S))
    mixed[:, -1, -2:] = PADDING
    return jnp.asarray(mixed)


def table(zero_origin):
    return token_table(
        normal(1, INPUT_VOCAB_SIZE, D), normal(2, S, D, D), zero_origin=zero_origin, scale=2.0, dtype=jnp.float32
    )


@pytest.mark.parametrize("zero_origin", [False, True])
def test_table_input_is_the_product_of_embedding_and_w_down(tokens, zero_origin):
    embedding, w_down = normal(1, INPUT_VOCAB_SIZE, D), normal(2, S, D, D)
    rows = jnp.concatenate([embedding, jnp.zeros((1, D))])
    shifted = slice(INPUT_VOCAB_SIZE) if zero_origin else ABSENT
    rows = rows.at[shifted].add(-embedding[0])
    naive = 2.0 * rows[tokens].reshape(B, P, S * D) @ w_down.reshape(S * D, D)
    np.testing.assert_allclose(patch_inputs(tokens, table(zero_origin)), naive, rtol=1e-5, atol=1e-4)


def test_an_unexpressed_gene_adds_nothing_from_a_zero_origin_and_padding_never():
    rows = table(zero_origin=True)
    assert (rows[:, 0] == 0).all() and (table(zero_origin=False)[:, PADDING] == 0).all()
    assert not (rows[:, ABSENT] == 0).any()


@pytest.mark.parametrize("zero_origin", [False, True])
def test_known_places_change_neither_values_nor_gradients(tokens, zero_origin):
    absent = jax.random.bernoulli(jax.random.key(9), 0.3, (2, P, S)) & (jnp.arange(P) < P - 1)[:, None]
    mask = jnp.arange(B) % 2
    tokens = jnp.where(absent[mask], ABSENT, jnp.where(tokens == ABSENT, 0, tokens))
    flat = tokens.reshape(B, -1)
    places = [np.flatnonzero((np.asarray(row) > 0) & (np.asarray(row) < MASK)) for row in flat]
    capacity = max(map(len, places)) + 2
    # A place that is listed but masked, and places beyond the layout, stand for nothing.
    masked = int(np.flatnonzero(np.asarray(flat[0]) == MASK)[0])
    listed = jnp.asarray(
        [[*row, masked if i == 0 else P * S, *[P * S] * (capacity - len(row) - 1)] for i, row in enumerate(places)]
    )
    known = KnownPlaces(listed, absent, mask)
    weight = normal(3, B, P, D)
    dense = lambda t: (patch_inputs(tokens, t) * weight).sum()  # noqa: E731
    sparse = lambda t: (patch_inputs(tokens, t, known) * weight).sum()  # noqa: E731
    rows = table(zero_origin)
    np.testing.assert_allclose(patch_inputs(tokens, rows, known), patch_inputs(tokens, rows), rtol=1e-5, atol=1e-4)
    gradient, expected = jax.grad(sparse)(rows), jax.grad(dense)(rows)
    assert (expected[:, ABSENT] != 0).any()
    used = jnp.ones(rows.shape[1]).at[PADDING].set(0.0)[:, None]  # nobody reads the padding row's gradient
    np.testing.assert_allclose(gradient * used, expected * used, rtol=1e-5, atol=1e-5)


def head(seed=0, *, corrected=VOCAB_SIZE, base=True, tilt=True):
    return GeneHead(
        normal(seed, B, P, D),
        normal(seed + 1, S, D, corrected) / D,
        normal(seed + 2, S, P, VOCAB_SIZE) - 0.02 * token_counts() if base else None,
        0.01 * normal(seed + 3, B, P, S) if tilt else None,
    )


HEADS = {
    "full": head(),
    "plain": head(base=False, tilt=False),
    "base only": head(tilt=False),
    "tail left to the base": head(corrected=104),
}


@pytest.fixture(params=HEADS)
def gene_head(request):
    return HEADS[request.param]


@pytest.fixture(params=[1, 6, 10_000])
def rows_per_tile(request, monkeypatch):
    monkeypatch.setattr(tiles, "ROWS_PER_TILE", request.param)


def naive_nll(head, targets):
    log_p = jax.nn.log_softmax(all_logits(head), axis=-1)
    return -jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]


def test_logits_are_states_times_matrix_plus_base_plus_tilt():
    h = head()
    expected = jnp.einsum("bpd,sdv->bpsv", h.states, h.matrix) + jnp.moveaxis(h.base, 0, 1)
    expected = expected + h.tilt[..., None] * token_counts()
    np.testing.assert_allclose(all_logits(h), expected, rtol=1e-4, atol=1e-3)


def test_fused_loss_and_gradients_equal_the_naive_ones(gene_head, rows_per_tile):
    rng = np.random.default_rng(5)
    targets = jnp.asarray(rng.choice([0, 1, 5, 103, 104, 280], size=(B, P, S)))
    weights = jnp.asarray(rng.uniform(size=(B, P, S)) * (rng.uniform(size=(B, P, S)) < 0.5), jnp.float32)

    def fused(parts):
        return weighted_cross_entropy(GeneHead(base=gene_head.base, **parts), targets, weights) * 3.0

    def naive(parts):
        return (naive_nll(GeneHead(base=gene_head.base, **parts), targets) * weights).sum() * 3.0

    parts = {"states": gene_head.states, "matrix": gene_head.matrix, "tilt": gene_head.tilt}
    value, gradients = jax.value_and_grad(fused)(parts)
    expected, expected_gradients = jax.value_and_grad(naive)(parts)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(fused(parts), expected, rtol=1e-5)
    for name, gradient in expected_gradients.items():
        if gradient is not None:
            scale = float(jnp.abs(gradient).max())
            np.testing.assert_allclose(gradients[name], gradient, atol=1e-5 * scale, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_masked_rows_alone_give_the_same_loss_and_gradients_and_more_than_fit_too(gene_head, monkeypatch, share):
    monkeypatch.setattr(cross_entropy, "FEWEST_CELLS", 1)
    monkeypatch.setattr(tiles, "ROWS_PER_TILE", 6)
    rng = np.random.default_rng(7)
    targets = jnp.asarray(rng.integers(0, VOCAB_SIZE, (B, P, S)))
    weights = jnp.asarray(rng.uniform(0.1, 1, (B, P, S)) * (rng.uniform(size=(B, P, S)) < share), jnp.float32)
    parts = {"states": gene_head.states, "matrix": gene_head.matrix, "tilt": gene_head.tilt}
    value, gradients = jax.value_and_grad(
        lambda parts: weighted_cross_entropy(GeneHead(base=gene_head.base, **parts), targets, weights)
    )(parts)
    expected, expected_gradients = jax.value_and_grad(
        lambda parts: (naive_nll(GeneHead(base=gene_head.base, **parts), targets) * weights).sum()
    )(parts)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for found, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(found, other, atol=1e-5 * scale, rtol=1e-4)


def test_rows_without_a_masked_gene_are_not_computed(monkeypatch):
    monkeypatch.setattr(cross_entropy, "FEWEST_CELLS", 1)
    h = head()
    spoiled = GeneHead(h.states.at[0, 0].set(jnp.nan), h.matrix, h.base, h.tilt)
    targets, weights = jnp.zeros((B, P, S), int), jnp.zeros((B, P, S)).at[1:, ::2].set(1.0)

    def gradient(parts):
        return jax.grad(lambda m: weighted_cross_entropy(GeneHead(parts.states, m, h.base, h.tilt), targets, weights))(
            parts.matrix
        )

    np.testing.assert_array_equal(gradient(spoiled), gradient(h))
    monkeypatch.setattr(cross_entropy, "FEWEST_CELLS", 100)
    assert jnp.isnan(gradient(spoiled)).any()  # all rows are


def test_on_a_mesh_every_device_computes_its_cells():
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    rng, cells = np.random.default_rng(8), 8
    tokens = jnp.asarray(rng.choice([0, 0, 3, 90, MASK, ABSENT], size=(cells, P, S)))
    weights = jnp.asarray(rng.uniform(size=(cells, P, S)) * (np.asarray(tokens) == MASK), jnp.float32)
    tilt = 0.01 * normal(4, cells, P, S)

    def run(tokens, weights, tilt, rows, matrix):
        def loss(rows, matrix, tilt):
            states = patch_inputs(tokens, rows)
            return weighted_cross_entropy(GeneHead(states, matrix, None, tilt), jnp.zeros_like(tokens), weights)

        nll = token_nll(GeneHead(patch_inputs(tokens, rows), matrix, None, tilt), jnp.zeros_like(tokens))
        return jax.value_and_grad(loss, argnums=(0, 1, 2))(rows, matrix, tilt), nll

    shared = table(zero_origin=False), normal(1, S, D, VOCAB_SIZE) / D
    expected = run(tokens, weights, tilt, *shared)
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        compiled = jax.jit(run).lower(*jax.device_put((tokens, weights, tilt), rows), *shared).compile()
    found = compiled(*jax.device_put((tokens, weights, tilt), rows), *shared)
    assert found[1].sharding.is_equivalent_to(rows, 3)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    assert "all-gather" not in compiled.as_text()


def test_indicators_give_the_same_inputs_and_gradients_as_the_gather(tokens, monkeypatch):
    rows, weight = table(zero_origin=True), normal(3, B, P, D)
    loss = lambda t: (patch_inputs(tokens, t) * weight).sum()  # noqa: E731
    gathered, gradient = patch_inputs(tokens, rows), jax.grad(loss)(rows)
    monkeypatch.setattr(table_module, "target_platform", lambda: "tpu")
    np.testing.assert_allclose(patch_inputs(tokens, rows), gathered, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(rows), gradient, rtol=1e-5, atol=1e-5)


def test_entries_of_weight_0_add_nothing_whatever_their_target():
    targets = jnp.full((B, P, S), ABSENT).at[0, 0, 0].set(3)
    weights = jnp.zeros((B, P, S)).at[0, 0, 0].set(1.0)
    h = head()
    np.testing.assert_allclose(
        weighted_cross_entropy(h, targets, weights), naive_nll(h, jnp.minimum(targets, 280))[0, 0, 0], rtol=1e-5
    )


def test_token_nll_is_that_of_the_logits(gene_head, rows_per_tile):
    targets = jnp.asarray(np.random.default_rng(6).integers(0, VOCAB_SIZE, (B, P, S)))
    np.testing.assert_allclose(token_nll(gene_head, targets), naive_nll(gene_head, targets), rtol=1e-4, atol=1e-4)


def test_mean_counts_are_those_of_the_logits(gene_head, rows_per_tile):
    naive = jax.nn.softmax(all_logits(gene_head), axis=-1) @ token_counts()
    np.testing.assert_allclose(mean_counts(gene_head), naive, rtol=1e-4, atol=1e-4)


def test_no_array_of_all_logits_is_in_the_compiled_gradient():
    wide = GeneHead(normal(0, 8, 300, D), normal(1, S, D, VOCAB_SIZE), None, None)
    targets, weights = jnp.zeros((8, 300, S), int), jnp.ones((8, 300, S))
    compiled = jax.jit(
        jax.grad(lambda s: weighted_cross_entropy(GeneHead(s, wide.matrix, None, None), targets, weights))
    )
    memory = compiled.lower(wide.states).compile().memory_analysis().temp_size_in_bytes
    assert memory < 8 * 300 * S * VOCAB_SIZE * 4  # bytes of (B, G, V) in fp32


def test_draws_have_the_probabilities_of_the_logits():
    logits = jnp.log(jnp.array([0.5, 0.0, 0.2, 0.3]))
    drawn = draw_token(jnp.broadcast_to(logits, (40_000, 4)), jax.random.uniform(jax.random.key(0), (40_000,)))
    share = np.bincount(drawn, minlength=4) / 40_000
    np.testing.assert_allclose(share, [0.5, 0.0, 0.2, 0.3], atol=0.01)


def test_a_draw_never_takes_a_token_without_probability():
    logits = jnp.array([-jnp.inf, 0.0, -jnp.inf])
    edges = jnp.array([0.0, np.nextafter(1.0, 0.0, dtype=np.float32), 1.0])
    assert draw_token(jnp.broadcast_to(logits, (3, 3)), edges).tolist() == [1, 1, 1]


def test_listed_draws_are_those_of_the_guided_logits(monkeypatch):
    monkeypatch.setattr(listed, "ROWS_PER_TILE", 8)  # several rounds
    conditional, control = head(0), head(10)
    control = dataclasses.replace(control, matrix=conditional.matrix, base=conditional.base)
    place = jnp.stack([jnp.arange(P * S), jnp.arange(P * S)[::-1], jnp.full(P * S, P * S)])
    place = place.at[1, 3].set(P * S)
    uniforms = jax.random.uniform(jax.random.key(3), place.shape)
    guided = all_logits(control) + 3.0 * (all_logits(conditional) - all_logits(control))
    at_place = jnp.take_along_axis(guided.reshape(B, P * S, -1), jnp.minimum(place, P * S - 1)[..., None], axis=1)
    expected = draw_token(at_place / 0.7, uniforms)
    numbers = {"guidance": 2.0, "temperature": 0.7}
    drawn, log_p = draw_listed(conditional, place, uniforms, away_from=control, **numbers)
    real = np.asarray(place < P * S)
    assert (drawn == expected)[real].mean() > 0.98  # ties at interval borders may fall either way
    assert (drawn[~real] == 0).all() and (log_p[~real] == 0).all()
    hit = jnp.take_along_axis(jax.nn.log_softmax(at_place), drawn[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(log_p[real], hit[real], rtol=1e-4, atol=1e-4)


def test_guidance_is_the_papers_formula_and_mixed_it_stays_within_its_odds():
    rng = np.random.default_rng(0)
    conditional, other = (jnp.asarray(rng.normal(size=(7, VOCAB_SIZE)), jnp.float32) for _ in range(2))
    plain = guided_logits(conditional, other, 2.0, 0.0)
    np.testing.assert_array_equal(plain, other + 3.0 * (conditional - other))
    same = jax.nn.log_softmax(guided_logits(conditional, conditional, 2.0, 0.1))
    np.testing.assert_allclose(same, jax.nn.log_softmax(conditional), atol=1e-5)
    theirs, mine = np.exp(jax.nn.log_softmax(other)), np.exp(jax.nn.log_softmax(conditional))
    mixed = mine * (mine / (0.9 * theirs + 0.1 * mine)) ** 2
    np.testing.assert_allclose(
        np.exp(jax.nn.log_softmax(guided_logits(conditional, other, 2.0, 0.1))),
        mixed / mixed.sum(-1, keepdims=True),
        rtol=1e-4,
    )


def test_guidance_towards_large_counts_does_not_run_off_to_the_last_token():
    counts = np.arange(VOCAB_SIZE)
    raised, control = (scipy.stats.nbinom.logpmf(counts, 2.0, 2.0 / (2.0 + mean)) for mean in (20.0, 0.2))
    pure, mixed = (guided_logits(jnp.asarray(raised), jnp.asarray(control), 2.0, share) for share in (0.0, 0.1))
    assert int(pure.argmax()) == VOCAB_SIZE - 1
    expected = float(jax.nn.softmax(mixed) @ jnp.asarray(counts))
    assert 20.0 < expected < 30.0


def test_only_the_most_probable_tokens_that_hold_the_share_are_drawn():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.5, 0.15, 0.25])), (5_000, 4))
    uniforms = jax.random.uniform(jax.random.key(0), (5_000,))
    assert set(np.unique(draw_token(logits, uniforms, top_p=0.7))) == {1, 3}
    assert set(np.unique(draw_token(logits, uniforms, top_p=0.01))) == {1}
    np.testing.assert_array_equal(draw_token(logits, uniforms, top_p=1.0), draw_token(logits, uniforms))


def test_inputs_of_revealed_genes_are_those_of_the_new_tokens(tokens):
    rows = table(zero_origin=True)
    masked = jnp.where(tokens <= 280, MASK, tokens)
    flat = np.asarray(masked).reshape(B, -1)
    order = np.argsort(flat != MASK, axis=1, kind="stable")
    place = np.where(np.take_along_axis(flat, order, axis=1) == MASK, order, P * S)
    new = np.asarray(jnp.take_along_axis(tokens.reshape(B, -1), order, axis=1))
    found = revealed_inputs(patch_inputs(masked, rows), rows, jnp.asarray(place), jnp.asarray(new))
    np.testing.assert_allclose(found, patch_inputs(tokens, rows), rtol=1e-4, atol=1e-4)
