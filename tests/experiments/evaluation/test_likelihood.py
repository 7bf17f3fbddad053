"""Likelihood baselines: they are probabilities, and know what they should."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.sparse
from scipy.stats import nbinom

from experiments.evaluation.cells import Cells, all_measured, stored_cells
from experiments.evaluation.independent import IndependentGenes, token_histogram
from experiments.evaluation.labels import Labels, labels_of
from experiments.evaluation.likelihood import TrainingSide, baseline_nats, sample_nb_per_label
from experiments.evaluation.negative_binomial import DepthNB, depth_grid, fit_group
from lingshu_jax.tokens import VOCAB_SIZE, decode_tokens, token_bins

NB = DepthNB(np.array([3.0]), np.array([0.8]), np.array([0.5, 1.0, 4.0]))


def cells_of(counts: object) -> Cells:
    return all_measured(scipy.sparse.csr_matrix(np.asarray(counts, np.int64)))


def test_nb_depth_sums_to_one_over_all_tokens_of_a_gene() -> None:
    every_token = decode_tokens(np.arange(VOCAB_SIZE))[:, None]
    heavy = DepthNB(np.array([300.0]), np.array([0.3]), np.array([0.5, 1.0, 40.0]))
    for model in (NB, heavy):
        assert np.exp(-model.nats(cells_of(every_token))).sum() == pytest.approx(1, abs=1e-9)


def test_nb_depth_is_the_mixture_over_depths_of_products_over_genes() -> None:
    model = DepthNB(np.array([3.0, 200.0]), np.array([0.8, 2.0]), np.array([0.5, 1.0, 4.0]))
    low, width = token_bins()
    for small, token in itertools.product((0, 1, 7), (3, 105, 200)):
        counts = np.array([[small, decode_tokens(np.array([token]))[0]]])
        expected = 0.0
        for depth in model.depths:
            p = model.dispersion / (model.dispersion + depth * model.mean)
            bin_counts = np.arange(low[token], low[token] + width[token])
            pair = (
                nbinom.pmf(small, model.dispersion[0], p[0]) * nbinom.pmf(bin_counts, model.dispersion[1], p[1]).sum()
            )
            expected += pair / len(model.depths)
        assert model.nats(cells_of(counts))[0] == pytest.approx(-np.log(expected), rel=1e-9)


def test_independent_genes_follow_their_formula_and_sum_to_one() -> None:
    training = cells_of([[0, 2], [1, 2], [0, 150]])
    histogram = token_histogram(training)
    model = IndependentGenes.from_histogram(histogram)
    pool = histogram.sum(0) + 1
    expected = (histogram + 0.5 * pool / pool.sum()) / (3 + 0.5)
    np.testing.assert_allclose(model.probability, expected)
    np.testing.assert_allclose(model.probability.sum(1), 1)
    label = model.given(training.take(np.array([0])))
    assert label.probability[0, 0] == pytest.approx((1 + 20 * expected[0, 0]) / 21)
    nats = model.nats(cells_of([[1, 150]]))
    assert nats[0] == pytest.approx(-np.log(expected[0, 1]) - np.log(expected[1, 105]))


def test_unmeasured_genes_contribute_nothing() -> None:
    both = cells_of([[2, 5]])
    half = dataclasses.replace(both, counts=scipy.sparse.csr_matrix([[2, 0]]), measured=np.array([[True, False]]))
    pair = DepthNB(np.array([3.0, 2.0]), np.array([0.8, 1.0]), NB.depths)
    assert pair.nats(half)[0] == pytest.approx(NB.nats(cells_of([[2]]))[0])
    model = IndependentGenes.from_histogram(token_histogram(cells_of([[2, 5], [1, 4]])))
    alone = IndependentGenes(model.probability[:1])
    assert model.nats(half)[0] == pytest.approx(alone.nats(cells_of([[2]]))[0])


def test_fit_recovers_mean_and_dispersion() -> None:
    rng = np.random.default_rng(0)
    truth = DepthNB(np.array([2.0, 20.0, 50.0]), np.array([1.0, 3.0, 0.7]), depth_grid(np.exp(rng.normal(0, 0.4, 50))))
    cells = all_measured(truth.sample(6000, rng))
    fitted = fit_group(cells, np.asarray(cells.counts.mean(0)).ravel())
    ratio = fitted.mean / truth.mean
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.08)


def test_samples_have_the_histograms_they_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    model = IndependentGenes.from_histogram(token_histogram(cells_of(rng.poisson([0.2, 3, 160], (300, 3)))))
    drawn = token_histogram(all_measured(model.sample(4000, rng))) / 4000
    assert np.abs(drawn - model.probability).max() < 0.04


def test_depth_helps_where_depth_varies_and_labels_where_they_matter(plain, screen) -> None:
    for world in (plain, screen):
        rows, store = world.split.test, world.store
        training = TrainingSide.read(store, world.split, world.statistics, 0)
        labels = labels_of(store.obs.iloc[rows], store.columns)
        assert labels is not None
        nats = baseline_nats(training, stored_cells(store, rows, world.statistics.mean), labels)
        means = {name: values.mean() for name, values in nats.items()}
        assert means["nb_depth"] < means["independent genes"]
        assert ("nb_depth per label" in means) == bool(store.columns.context)
    assert means["nb_depth per label"] < means["nb_depth"]
    assert means["independent genes per label"] < means["independent genes"]


def test_labelled_samples_come_in_the_order_of_their_labels(screen) -> None:
    training = TrainingSide.read(screen.store, screen.split, screen.statistics, 0)
    rng = np.random.default_rng(0)
    context = np.array(["line_A", "line_B"] * 60)
    labels = Labels(context=context, perturbation=np.array(["control"] * 120))
    drawn = sample_nb_per_label(training, labels, rng).toarray()
    profile = {
        name: np.asarray(training.cells.take(np.flatnonzero(training.labels.context == name)).counts.mean(0)).ravel()
        for name in ("line_A", "line_B")
    }
    for name, other in (("line_A", "line_B"), ("line_B", "line_A")):
        mean = np.log1p(drawn[context == name].mean(0))
        own, foreign = np.log1p(profile[name]), np.log1p(profile[other])
        assert np.abs(mean - own).mean() < np.abs(mean - foreign).mean()
