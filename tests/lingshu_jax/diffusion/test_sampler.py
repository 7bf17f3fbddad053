import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from lingshu_jax.diffusion import (
    Confidence,
    ControlGuidance,
    CosineSchedule,
    GeometricSchedule,
    LinearSchedule,
    SamplerConfig,
    choosing,
    sample,
)
from lingshu_jax.diffusion.denoising import LogitDenoiser
from lingshu_jax.diffusion.schedule import masked_after
from lingshu_jax.kernels.gene_head import draw_token
from lingshu_jax.model import NoBias
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh, replicated
from lingshu_jax.tokens import ABSENT, MASK
from lingshu_jax.vocabulary import CONTROL_ROW
from tests.lingshu_jax import tiny
from tests.lingshu_jax.oracle import (
    CELLS,
    GENES,
    depth_cells,
    depth_denoiser,
    exact_denoiser,
    independent_denoiser,
    joint,
)
from tests.lingshu_jax.tiny import GENES as PANEL
from tests.lingshu_jax.tiny import conditions, denoiser

KEY = jax.random.key(0)
ONE_GENE_PER_STEP = CosineSchedule(steps=64)
CONFIG = SamplerConfig(schedule=GeometricSchedule(steps=4), cells_per_device=16)


def p_value(drawn, probabilities):
    observed = np.bincount(drawn.astype(int) @ 3 ** np.arange(GENES)[::-1], minlength=len(CELLS))
    expected = np.asarray(probabilities, float) / np.sum(probabilities, dtype=float) * len(drawn)
    rare = expected < 5
    if not rare.any():
        return scipy.stats.chisquare(observed, expected).pvalue
    pooled = [np.append(x[~rare], x[rare].sum()) for x in (observed, expected)]
    return scipy.stats.chisquare(*pooled).pvalue


@pytest.mark.parametrize("seed", [0, 1])
def test_one_gene_at_a_time_draws_the_joint(seed):
    probabilities = joint(seed)
    config = SamplerConfig(schedule=ONE_GENE_PER_STEP, cells_per_device=20_000)
    drawn = sample(exact_denoiser(probabilities), 20_000, config, jax.random.key(seed), genes=GENES)
    assert p_value(drawn, probabilities) > 1e-3


def test_one_step_draws_the_product_of_marginals():
    probabilities = joint()
    marginals = np.exp(np.asarray(jax.nn.log_softmax(independent_denoiser(probabilities)(CELLS[:1], {})[0], -1)))
    product = np.prod(marginals[np.arange(GENES), CELLS], axis=1)
    config = SamplerConfig(schedule=CosineSchedule(steps=1), cells_per_device=20_000)
    drawn = sample(exact_denoiser(probabilities), 20_000, config, KEY, genes=GENES)
    assert p_value(drawn, product) > 1e-3
    assert p_value(drawn, probabilities) < 1e-6


def test_fixed_genes_keep_their_value_and_condition_the_rest():
    probabilities = joint()
    fixed = np.array([MASK, 2, MASK, MASK])
    config = SamplerConfig(schedule=ONE_GENE_PER_STEP, cells_per_device=20_000)
    drawn = sample(exact_denoiser(probabilities), 20_000, config, KEY, fixed=np.tile(fixed, (20_000, 1)))
    assert (drawn[:, 1] == 2).all()
    conditional = np.where(CELLS[:, 1] == 2, probabilities, 0.0)
    kept = conditional > 0
    observed = np.bincount(drawn.astype(int) @ 3 ** np.arange(GENES)[::-1], minlength=len(CELLS))[kept]
    expected = conditional[kept] / conditional.sum() * 20_000
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_no_mask_comes_out_and_absent_exactly_where_asked():
    absent = np.zeros(PANEL, bool)
    absent[:5] = True
    drawn = sample(denoiser(trained=True), conditions(10), CONFIG, KEY, absent=absent)
    assert (drawn[:, :5] == ABSENT).all() and (drawn[:, 5:] < MASK).all()
    assert drawn.dtype == np.uint16


def test_w_0_equals_plain_conditional_sampling():
    model = denoiser(trained=True)
    plain = sample(model, conditions(20), CONFIG, KEY)
    guided = sample(model, conditions(20), dataclasses.replace(CONFIG, guidance=ControlGuidance(scale=0.0)), KEY)
    np.testing.assert_array_equal(plain, guided)
    away = sample(model, conditions(20), dataclasses.replace(CONFIG, guidance=ControlGuidance(scale=2.0)), KEY)
    control = np.asarray(conditions(20)["target"]) == 1
    np.testing.assert_array_equal(away[control], plain[control])  # away from itself is nowhere
    assert (away[~control] != plain[~control]).any()


def test_the_same_keys_give_the_same_cells_in_any_request():
    model, keys = denoiser(trained=True), jax.random.split(KEY, 64)
    everything = sample(model, conditions(64), CONFIG, keys)
    few = sample(model, {n: r[:7] for n, r in conditions(64).items()}, CONFIG, keys[:7])
    np.testing.assert_array_equal(everything[:7], few)
    order = np.random.default_rng(0).permutation(64)
    shuffled = sample(model, {n: r[order] for n, r in conditions(64).items()}, CONFIG, keys[order])
    np.testing.assert_array_equal(everything[order], shuffled)


def test_one_device_and_eight_give_the_same_cells():
    graph, state = nnx.split(denoiser(trained=True))
    drawn = []
    for devices in (1, 8):
        mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
        model = nnx.merge(graph, jax.device_put(state, replicated(mesh)))
        drawn.append(sample(model, conditions(40), CONFIG, jax.random.split(KEY, 40)))
    np.testing.assert_array_equal(*drawn)


def test_a_request_without_a_size_is_refused():
    with pytest.raises(ValueError, match="number of cells"):
        sample(denoiser(), {}, CONFIG, KEY)
    with pytest.raises(ValueError, match="genes=G"):
        sample(exact_denoiser(joint()), 5, CONFIG, KEY)
    with pytest.raises(ValueError, match="needs a perturbation field"):
        config = dataclasses.replace(CONFIG, guidance=ControlGuidance(scale=1.0))
        sample(exact_denoiser(joint()), {"a": jnp.zeros(3)}, config, KEY, genes=GENES)


@dataclasses.dataclass
class Counted:
    """A denoiser that counts its forward passes as they are run."""

    inner: object
    forwards: int = 0
    conditions = tiny.VOCABULARY

    def __call__(self, tokens, conditions):
        jax.debug.callback(self.count)
        return self.inner(tokens, conditions)

    def count(self):
        self.forwards += 1


def test_cells_that_start_alike_share_their_first_step():
    counted = Counted(exact_denoiser(joint()))
    config = SamplerConfig(schedule=CosineSchedule(steps=2), cells_per_device=8)
    kinds = jnp.arange(64) % 2
    apart = sample(LogitDenoiser(counted), {"line": kinds}, config, jax.random.split(KEY, 64), genes=GENES)
    jax.effects_barrier()
    assert counted.forwards == 1 + 64 // 8  # one first step for both conditions, one second step per batch
    together = sample(exact_denoiser(joint()), {"line": kinds}, config, jax.random.split(KEY, 64), genes=GENES)
    np.testing.assert_array_equal(apart, together)
    fixed = np.full((64, GENES), MASK)
    fixed[:, 0] = np.arange(64) % 3
    drawn = sample(LogitDenoiser(counted), {"line": kinds}, config, KEY, fixed=fixed)
    np.testing.assert_array_equal(drawn[:, 0], fixed[:, 0])
    jax.effects_barrier()
    assert counted.forwards == 2 * (1 + 64 // 8)  # six first steps fit into one batch


def test_keeping_inputs_up_to_date_is_summing_them_anew():
    """Against the plain formulation: predict from the tokens, draw every gene, keep those whose turn it is."""
    model = denoiser(trained=True, start=NoBias(), zero_origin=False)
    guidance = ControlGuidance(scale=2.0, mixed=0.0)
    config = SamplerConfig(schedule=CosineSchedule(steps=3), cells_per_device=16, guidance=guidance)
    keys = jax.random.split(KEY, 16)
    tokens = np.full((16, PANEL), MASK)
    uniforms = np.asarray(choosing._uniforms(keys, np.int32(0), PANEL))
    order = np.asarray(choosing._random_order(jnp.asarray(tokens == MASK), keys))
    control = {**conditions(16), "target": jnp.full(16, CONTROL_ROW)}
    for k in range(1, 4):
        masked = [masked_after(config.schedule, i, np.full(16, PANEL)) for i in (k - 1, k)]
        away = model(jnp.asarray(tokens), control)
        guided = away + 3.0 * (model(jnp.asarray(tokens), conditions(16)) - away)
        drawn = np.asarray(draw_token(guided, jnp.asarray(uniforms)))
        for cell in range(16):
            turn = order[cell, PANEL - masked[0][cell] : PANEL - masked[1][cell]]
            tokens[cell, turn] = drawn[cell, turn]
    found = sample(model, conditions(16), config, keys)
    assert (found == tokens).mean() > 0.99  # ties at interval borders may fall either way


def test_confidence_keeps_the_most_probable_draws():
    """One gene is certain: it comes first whatever the others are, and every gene is drawn in the end."""
    probabilities = joint() * np.where(CELLS[:, 2] == 1, 1.0, 0.0)
    seen = []

    def watching(tokens, conditions):
        jax.debug.callback(lambda x: seen.append(np.array(x)), tokens)
        return exact_denoiser(probabilities / probabilities.sum())(tokens, conditions)

    config = SamplerConfig(schedule=LinearSchedule(steps=4), order=Confidence(temperature=0.0), cells_per_device=500)
    drawn = sample(watching, 500, config, KEY, genes=GENES)
    jax.effects_barrier()
    assert (drawn[:, 2] == 1).all() and (drawn < 3).all()
    after_first = sorted(seen, key=lambda x: (x == MASK).sum())[2]
    assert ((after_first != MASK).sum(1) == 1).all() and (after_first[:, 2] == 1).all()


def test_with_enough_noise_a_confidence_order_draws_the_joint():
    probabilities = joint()
    config = SamplerConfig(schedule=LinearSchedule(steps=4), order=Confidence(temperature=1e6), cells_per_device=20_000)
    drawn = sample(exact_denoiser(probabilities), 20_000, config, KEY, genes=GENES)
    assert p_value(drawn, probabilities) > 1e-3


def test_few_cosine_steps_lose_the_spread_of_depths_and_geometric_ones_keep_it():
    """Even with an exact denoiser: a first step that reveals many genes reveals them at the mean depth."""
    genes, cells = 400, 1_500

    def spread(counts):
        return np.log(counts.sum(1)).std()

    def drawn(schedule):
        config = SamplerConfig(schedule=schedule, cells_per_device=500)
        return spread(sample(depth_denoiser, cells, config, KEY, genes=genes).astype(float))

    real = spread(depth_cells(cells, genes))
    assert drawn(CosineSchedule(steps=3)) < 0.6 * real
    assert drawn(GeometricSchedule(steps=8, first_share=2.0 / genes)) > 0.8 * real
    assert drawn(CosineSchedule(steps=100)) > 0.85 * real
