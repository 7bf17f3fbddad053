"""Significance of genes, against scipy gene by gene."""

import numpy as np
import scipy.sparse
import scipy.stats

from experiments.evaluation.cells import all_measured
from experiments.evaluation.volcano import surprise


def test_adjusted_p_values_are_those_of_scipy_and_genes_without_counts_say_nothing():
    rng = np.random.default_rng(0)
    rates = np.array([0.0, 0.5, 2.0, 5.0, 9.0])
    left = all_measured(scipy.sparse.csr_matrix(rng.poisson(rates * np.array([1, 1, 1, 3, 1]), (40, 5))))
    right = all_measured(scipy.sparse.csr_matrix(rng.poisson(rates, (50, 5))))
    found = surprise(left, right, 1e4)
    a, b = (cells.log_expression(1e4).toarray() for cells in (left, right))
    p = [scipy.stats.mannwhitneyu(a[:, g], b[:, g], method="asymptotic").pvalue for g in range(1, 5)]
    np.testing.assert_allclose(found[1:], -np.log10(scipy.stats.false_discovery_control(p)), rtol=1e-9)
    assert found[0] == 0 and found.argmax() == 3 and found[3] > 5


def test_too_few_cells_or_no_counts_are_no_evidence():
    nothing = all_measured(scipy.sparse.csr_matrix((4, 3), dtype=np.int64))
    one = all_measured(scipy.sparse.csr_matrix(np.ones((1, 3), np.int64)))
    assert not surprise(nothing, nothing, 1e4).any() and not surprise(one, nothing, 1e4).any()
