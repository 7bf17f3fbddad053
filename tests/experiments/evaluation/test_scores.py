"""Scores of perturbation effects and their intervals."""

import numpy as np
import pytest

from experiments.evaluation.pairing import paired_difference
from experiments.evaluation.scores import Truth, context_average, discrimination, permutation_p, score


def effects(n: int = 12, genes: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, genes))


def test_discrimination_of_random_predictions_averages_one_half() -> None:
    rng = np.random.default_rng(1)
    candidates, everything = effects(), np.ones(60, bool)
    found = [discrimination(rng.normal(size=60), candidates, everything) for _ in range(40)]
    assert np.mean(found) == pytest.approx(0.5)  # over all candidates as the truth it is exact
    assert np.mean([pds[0] for pds in found if pds is not None]) == pytest.approx(0.5, abs=0.15)


def test_discrimination_ranks_the_nearest_first_and_shares_ties() -> None:
    candidates, everything = effects(), np.ones(60, bool)
    pds = discrimination(candidates[3], candidates, everything)
    assert pds is not None and pds[3] == 1 and pds.min() == 0
    same = discrimination(np.zeros(60), np.ones((12, 60)), everything)
    assert same is not None
    np.testing.assert_allclose(same, 0.5)


def test_discrimination_is_not_given_with_few_candidates() -> None:
    assert discrimination(np.zeros(60), effects(9), np.ones(60, bool)) is None


def test_discrimination_does_not_look_at_the_targets_own_genes() -> None:
    candidates = np.zeros((12, 60))
    candidates[np.arange(12), np.arange(12)] = -5.0  # nothing but each target's own gene moves
    ranked = np.arange(60) >= 12
    pds = discrimination(candidates[0], candidates, ranked)
    assert pds is not None
    np.testing.assert_allclose(pds, 0.5)


def test_scores_are_of_effects_against_each_sides_own_control() -> None:
    rng = np.random.default_rng(5)
    control, effect = rng.uniform(1, 2, 60), rng.normal(size=60)
    candidates = np.concatenate([[control + effect], control + effects(11)])
    truth = Truth(pseudobulk=control + effect, control=control, candidates=candidates, own=0, ranked=np.ones(60, bool))
    found = score(control + 0.5 + effect, control + 0.5, truth, mean_effect=None)
    assert found.pearson_delta == pytest.approx(1)
    assert found.pds is not None and found.pds[0] == 1
    assert found.mae == pytest.approx(0.5)
    assert np.isnan(found.pearson_residual)


def test_contexts_weigh_equally_however_many_conditions_they_have() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    contexts = np.array(["a", "a", "a", "b", "b"])
    found = context_average(values, contexts, np.array(list("pqrpq")), np.random.default_rng(0))
    assert found.value == 0.5 and found.n == 4
    assert found.low is not None and found.high is not None and found.low <= 0.5 <= found.high


def test_one_perturbation_has_no_interval_and_none_has_no_value() -> None:
    rng = np.random.default_rng(0)
    one = context_average(np.array([0.3, 0.5]), np.array(["a", "b"]), np.array(["p", "p"]), rng)
    assert one.value == pytest.approx(0.4) and one.low is None
    assert context_average(np.array([np.nan]), np.array(["a"]), np.array(["p"]), rng).value is None


def test_bootstrap_interval_covers_the_mean_over_perturbations() -> None:
    rng = np.random.default_rng(0)
    names = np.array([str(i) for i in range(25)])
    covered = 0
    for _ in range(60):
        found = context_average(rng.normal(2.0, 1.0, 25), np.full(25, "a"), names, rng)
        assert found.low is not None and found.high is not None
        covered += found.low <= 2.0 <= found.high
    assert covered >= 50


def test_permutation_p_is_small_for_a_perfect_method_and_not_for_chance() -> None:
    candidates, everything = effects(), np.ones(60, bool)
    perfect = [discrimination(row, candidates, everything) for row in candidates[:5]]
    blind = [discrimination(np.zeros(60), candidates, everything) for _ in range(5)]
    rng = np.random.default_rng(0)
    found = [values for values in perfect if values is not None]
    p = permutation_p(found, list(range(5)), ["a"] * 5, rng)
    assert p is not None and p < 0.01
    p = permutation_p([values for values in blind if values is not None], list(range(5)), ["a"] * 5, rng)
    assert p is not None and p > 0.02
    assert permutation_p([], [], [], rng) is None


def test_paired_difference_covers_and_is_far_narrower_than_unpaired() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        cells = rng.normal(2000, 400, 60)
        found = paired_difference(cells - 20 + rng.normal(0, 15, 60), cells, np.full(60, 3.0))
        assert found.low is not None and found.high is not None
        assert found.high - found.low < 12
        covered += found.low <= -20 <= found.high
    assert covered >= 180


def test_paired_difference_is_no_narrower_than_its_monte_carlo_error() -> None:
    found = paired_difference(np.full(4, 10.0), np.full(4, 12.0), np.full(4, 1.0))
    assert found.value == -2 and found.low is not None and found.low < -2 - 1.96 * 0.5


def test_paired_difference_needs_the_same_cells() -> None:
    with pytest.raises(ValueError, match="same cells"):
        paired_difference(np.zeros(3), np.zeros(4))
