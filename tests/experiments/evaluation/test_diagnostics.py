"""Collapse and calibration: two ways to be wrong that the field's metrics do not show."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse

from experiments.evaluation.calibration import calibration_table
from experiments.evaluation.cells import Cells, all_measured
from experiments.evaluation.collapse import collapse_table
from experiments.evaluation.effects import Generated
from experiments.evaluation.held_out import read_held_out
from experiments.evaluation.labels import CONTROL, Labels
from experiments.evaluation.sides import Sides
from experiments.evaluation.training_effects import TrainingEffects


@pytest.fixture(scope="module")
def sides(screen):
    read = Sides.read(screen.store, screen.split, screen.statistics, screen.oracle, part="test", seed=0)
    training = TrainingEffects.read(screen.store, screen.split, screen.statistics)
    generated = Generated.of(read.generated, read.generated_labels, training.target_sum)
    rng = np.random.default_rng(0)
    return read_held_out(screen.store, screen.split, screen.statistics, training, "test", rng), training, generated


def shares(sides, generated=None) -> dict[str, float]:
    held_out, training, oracle = sides
    return {row.name: row.share for row in collapse_table(held_out, training, generated or oracle)}


def test_an_oracle_differs_between_perturbations_as_the_real_cells_do(sides) -> None:
    found = shares(sides)
    assert found["model"] == pytest.approx(1, abs=0.1)
    assert found["mean_effect"] == pytest.approx(0, abs=1e-12) and found["no_change"] == 0
    assert 0.3 < found["perturbation_transfer"] < 1.7


def test_labels_without_meaning_collapse_however_few_cells_there_are(sides) -> None:
    held_out, _, oracle = sides
    rng, members = np.random.default_rng(0), dict(oracle.members)
    for context in held_out.contexts:
        keys = [key for key in members if key[0] == context and key[1] != CONTROL]
        pooled = rng.permutation(np.concatenate([members[key] for key in keys]))
        members |= dict(zip(keys, np.array_split(pooled, len(keys)), strict=True))
    few = {key: positions[:15] for key, positions in members.items()}
    assert shares(sides, dataclasses.replace(oracle, members=few))["model"] < 0.15


def counts(rate: float, n: int, seed: int, dispersion: float = 0.0) -> Cells:
    rng = np.random.default_rng(seed)
    rates = np.full((n, 40), rate) * (rng.gamma(1 / dispersion, dispersion, (n, 40)) if dispersion else 1.0)
    return all_measured(scipy.sparse.csr_matrix(rng.poisson(rates)))


def calibration(real: Cells, generated: Cells) -> dict:
    labels = [
        Labels(context=np.full(len(cells), "a"), perturbation=np.array(["p", "q"])[np.arange(len(cells)) % 2])
        for cells in (real, generated)
    ]
    rows = calibration_table(real, labels[0], generated, labels[1], np.random.default_rng(0))
    return {(row.name, row.level): row for row in rows}


@pytest.mark.parametrize(("rate", "level"), [(0.5, "0.1 to 1"), (4.0, "1 to 10"), (40.0, "above 10")])
def test_counts_of_one_distribution_are_flat(rate, level) -> None:
    found = calibration(counts(rate, 200, 0), counts(rate, 400, 1))
    for name in ("model", "real vs real"):
        row = found[name, level]
        assert row.error < 0.03 and row.genes == 40 and sum(row.shares) == pytest.approx(1)


def test_too_little_spread_puts_mass_at_the_ends_and_a_shift_on_one_side() -> None:
    real = counts(40, 200, 0, dispersion=0.3)
    narrow = calibration(real, counts(40, 400, 1))["model", "above 10"]
    assert narrow.shares[0] > 0.2 and narrow.shares[-1] > 0.2 and narrow.shares[4] < 0.07
    low = calibration(real, counts(20, 400, 1, dispersion=0.3))["model", "above 10"]
    assert low.shares[-1] > 0.3 and low.error > 0.3
