"""Benchmarks of a trained run, on one that has hardly learnt anything: like is compared with like."""

import argparse

import numpy as np
import pytest

from experiments.benchmarks.held_out_cells import HeldOutCells
from experiments.benchmarks.imputation import MODEL, NEAREST, TYPE_MEAN, compare, hidden_genes, within_labels
from experiments.benchmarks.label_recovery import labels_told
from experiments.benchmarks.representation import accuracies
from lingshu_jax.tokens import ABSENT


@pytest.fixture(scope="module")
def held_out(runs) -> HeldOutCells:
    return HeldOutCells.read(argparse.Namespace(run="tiny", runs=runs, store=None, cells=40, seed=0))


def test_hidden_genes_are_told_by_every_method(held_out):
    found = compare(held_out, 0.5, 0)
    assert list(found) == [MODEL, TYPE_MEAN, NEAREST]
    for nats, expected in found.values():
        assert nats.shape == (40,) and (nats > 0).all() and np.isfinite(nats).all()
        assert expected.shape == (40, held_out.store.n_genes) and (expected > 0).all()


def test_a_share_of_the_measured_genes_is_hidden():
    tokens = np.zeros((50, 400), np.uint16)
    tokens[:, :100] = ABSENT
    hidden = hidden_genes(tokens, 0.5, 0)
    assert not hidden[:, :100].any() and abs(hidden[:, 100:].mean() - 0.5) < 0.02


def test_knowing_label_and_gene_earns_no_correlation_and_the_truth_earns_all():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 50)
    means = rng.gamma(2.0, 2.0, (2, 30))[np.repeat([0, 1], 50)]
    counts, hidden = rng.poisson(means), rng.random(means.shape) < 0.5
    assert within_labels(counts, counts, hidden, labels) == pytest.approx(1.0)
    assert abs(within_labels(means, counts, hidden, labels)) < 0.05


def test_labels_and_neighbours_are_told(held_out):
    told = labels_told(held_out, "cell_line", draws=2, seed=0)
    truth = held_out.labels(held_out.rows, "cell_line")
    assert all(set(labels) <= set(truth) for labels in told.values())
    assert (told["nb_depth per label"] == truth).mean() > 0.6
    found = accuracies(held_out, "cell_line", 0)
    assert list(found) == ["model", "50 principal components"] and min(found.values()) > 1 / 3
