"""Cells around a predicted pseudobulk."""

import numpy as np
import pytest
import scipy.sparse

from experiments.evaluation.cells import Cells, all_measured
from experiments.evaluation.draws import cells_around
from experiments.evaluation.ridge import PENALTY, RidgeMap

TARGET = 1000.0


def controls(n: int = 400, genes: int = 60) -> Cells:
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(0, 1, genes)) * np.exp(rng.normal(0, 0.4, (n, 1))) * 8
    return all_measured(scipy.sparse.csr_matrix(rng.poisson(rate)))


def drawn(shift: np.ndarray, n: int = 2000) -> tuple[Cells, np.ndarray, np.ndarray]:
    cells = controls()
    control = cells.pseudobulk(TARGET)
    return cells_around(control + shift, cells, control, n, TARGET, np.random.default_rng(1)), control, shift


def test_drawn_cells_have_the_pseudobulk_they_are_drawn_around() -> None:
    shift = np.zeros(60)
    shift[:10], shift[10:14] = -0.8, 0.8
    cells, control, _ = drawn(shift)
    np.testing.assert_allclose((cells.pseudobulk(TARGET) - control)[:14], shift[:14], atol=0.2)
    assert np.corrcoef(cells.pseudobulk(TARGET) - control, shift)[0, 1] > 0.97


def test_without_a_shift_they_are_resampled_controls() -> None:
    cells, _, _ = drawn(np.zeros(60), n=50)
    own = {row.tobytes() for row in controls().counts.toarray().astype(np.int64)}
    assert all(row.tobytes() in own for row in cells.counts.toarray().astype(np.int64))


def test_an_unknown_gene_is_left_alone_and_a_silent_one_can_rise() -> None:
    cells = controls()
    cells.counts[:, 3] = 0
    cells.counts.eliminate_zeros()
    control = cells.pseudobulk(TARGET)
    target = control.copy()
    target[0], target[3] = np.nan, 1.0
    found = cells_around(target, cells, control, 2000, TARGET, np.random.default_rng(1)).pseudobulk(TARGET)
    assert found[0] == pytest.approx(control[0], abs=0.1)
    assert found[3] == pytest.approx(1.0, abs=0.2)


def test_the_linear_baseline_is_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    genes = tuple(f"g{i}" for i in range(30))
    deltas = {genes[i]: rng.normal(size=30) for i in range(15)}
    found = RidgeMap.fit(deltas, genes)
    assert found is not None
    y = np.stack([deltas[name] for name in sorted(deltas)], 1)
    u, s, _ = np.linalg.svd(y - y.mean(0), full_matrices=False)
    g = u[:, :10] * s[:10]
    p = np.stack([g[genes.index(name)] for name in sorted(deltas)])
    b, ridge = y.mean(1), PENALTY * np.eye(10)
    w = np.linalg.inv(g.T @ g + ridge) @ g.T @ (y - b[:, None]) @ p @ np.linalg.inv(p.T @ p + ridge)
    np.testing.assert_allclose(found.effect("g20"), g @ w @ g[20] + b, rtol=1e-6)
    np.testing.assert_allclose(found.effect("g20+g21"), g @ w @ (g[20] + g[21]) + b, rtol=1e-6)
    assert found.effect("IL6") is None


def test_the_linear_baseline_needs_perturbations_that_are_genes() -> None:
    assert RidgeMap.fit({"IL6": np.zeros(3), "IFNG": np.zeros(3)}, ("a", "b", "c")) is None
