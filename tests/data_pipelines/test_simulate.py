import numpy as np
import pytest

from data_pipelines import simulate_screen
from data_pipelines.simulate import CONTROL, ScreenConfig


def test_same_seed_same_cells_other_seed_others():
    settings = {"genes": 60, "contexts": 2, "perturbations": 3, "cells": 10, "controls": 10}
    first, again, other = (simulate_screen(seed=seed, **settings) for seed in (1, 1, 2))
    assert (first.X != again.X).nnz == 0
    assert first.obs.equals(again.obs)
    assert (first.X != other.X).nnz > 0


def test_shape_labels_and_library_follow_the_config():
    config = ScreenConfig(genes=60, contexts=2, perturbations=3, cells=50, controls=80, median_library=900)
    screen = simulate_screen(config)
    assert screen.shape == (2 * (3 * 50 + 80), 60)
    sizes = screen.obs.groupby(["cell_line", "target_gene"], observed=True).size()
    assert set(sizes[:, CONTROL]) == {80}
    assert set(screen.obs.target_gene) - {CONTROL} <= set(screen.var_names)
    assert np.median(np.asarray(screen.X.sum(1))) == pytest.approx(900, rel=0.15)


def test_truth_is_what_the_cells_show():
    """With many cells, the observed log fold changes of well-expressed genes are the planted ones."""
    screen = simulate_screen(genes=60, contexts=2, perturbations=3, cells=3000, controls=3000, median_library=3000)
    truth = screen.uns["planted_truth"]
    for c, context in enumerate(truth["contexts"]):
        here = (screen.obs.cell_line == context).to_numpy()
        control = _shares(screen, here & (screen.obs.target_gene == CONTROL).to_numpy())
        for p, target in enumerate(truth["perturbations"]):
            perturbed = _shares(screen, here & (screen.obs.target_gene == target).to_numpy())
            enough = truth["baseline_mean"][c] * np.minimum(1, 2 ** truth["log2_fold_change"][c, p]) > 2
            observed = np.log2(perturbed / control)[enough]
            assert np.abs(observed - truth["log2_fold_change"][c, p][enough]).max() < 0.12


def test_targets_are_knocked_down_to_the_residual():
    screen = simulate_screen(genes=60, contexts=1, perturbations=3, cells=5, controls=5, residual=0.25, effect=1e-6)
    truth = screen.uns["planted_truth"]
    own = [truth["log2_fold_change"][0, p, screen.var_names.get_loc(g)] for p, g in enumerate(truth["perturbations"])]
    np.testing.assert_allclose(own, -2.0, atol=0.2)


def test_impossible_config_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ScreenConfig(cells=0)
    with pytest.raises(ValueError, match="panel of at least"):
        ScreenConfig(genes=10, perturbations=9)


def _shares(screen, cells):
    total = np.asarray(screen.X[cells].sum(0)).ravel()
    return total / total.sum()
