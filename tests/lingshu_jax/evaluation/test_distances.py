"""Distances between point sets against references that are written out or come from POT and scipy."""

import jax
import numpy as np
import pytest
import scipy.stats

from lingshu_jax.evaluation import (
    correlation_error,
    energy_distance,
    ilisi,
    ks_distance,
    mean_pearson,
    mmd,
    sinkhorn_wasserstein,
    sliced_wasserstein,
    spearman,
)


def clouds(n: int = 90, m: int = 70, dimensions: int = 10, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scale = np.exp(-np.arange(dimensions) / 4) * 3
    return rng.normal(size=(n, dimensions)) * scale + 100, rng.normal(size=(m, dimensions)) * scale + 100 + shift


def squares(z: np.ndarray) -> np.ndarray:
    return ((z[:, None] - z[None]) ** 2).sum(-1)


def test_mmd_is_the_biased_squared_statistic_of_five_kernels() -> None:
    x, y = clouds()
    d = squares(np.concatenate([x, y]))
    mean = d.sum() / (len(d) * (len(d) - 1))
    kernel = sum(np.exp(-d / (mean * 2.0**i)) for i in (-2, -1, 0, 1, 2))
    n = len(x)
    expected = kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
    assert mmd(x, y) == pytest.approx(expected, abs=1e-5)
    assert mmd(x, x) == pytest.approx(0, abs=1e-6)


def test_energy_distance_is_its_definition() -> None:
    x, y = clouds()
    d, n = np.sqrt(squares(np.concatenate([x, y]))), len(x)
    assert energy_distance(x, y) == pytest.approx(2 * d[:n, n:].mean() - d[:n, :n].mean() - d[n:, n:].mean(), rel=1e-3)


@pytest.mark.parametrize("shift", [0.0, 0.5, 5.0])
def test_sinkhorn_is_within_two_percent_of_exact_transport(shift: float) -> None:
    ot = pytest.importorskip("ot")
    x, y = clouds(shift=shift)
    exact = ot.emd2(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), ot.dist(x, y, "euclidean"))
    assert sinkhorn_wasserstein(x, y) == pytest.approx(exact, rel=0.02)


def test_sliced_wasserstein_of_a_line_is_exact_transport_on_it() -> None:
    x, y = (side[:60, :1] for side in clouds())
    expected = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, jax.random.key(0)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_sinkhorn_is_that_of_pot_at_the_same_entropy(epsilon: float) -> None:
    ot = pytest.importorskip("ot")
    x, y = clouds()
    a, b, cost = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), ot.dist(x, y, "euclidean")
    plan = ot.sinkhorn(a, b, cost, reg=epsilon * cost.mean(), method="sinkhorn_log", numItermax=5000, stopThr=1e-12)
    assert sinkhorn_wasserstein(x, y, epsilon=epsilon) == pytest.approx((plan * cost).sum(), rel=1e-4)


def test_sliced_wasserstein_is_that_of_pot_on_the_same_directions() -> None:
    ot = pytest.importorskip("ot")
    x, y = clouds(n=60, m=60)
    directions = np.array(jax.random.normal(jax.random.key(0), (10, 256)))
    directions /= np.linalg.norm(directions, axis=0)
    expected = np.mean([ot.wasserstein_1d(x @ line, y @ line, p=1) for line in directions.T])
    assert sliced_wasserstein(x, y, jax.random.key(0)) == pytest.approx(expected, rel=1e-4)


def test_sliced_wasserstein_refuses_unequal_numbers() -> None:
    with pytest.raises(ValueError, match="equal numbers"):
        sliced_wasserstein(*clouds(), jax.random.key(0))


def reference_ilisi(x: np.ndarray, y: np.ndarray, k: int, perplexity: float) -> float:
    z, first = np.concatenate([x, y]), np.arange(len(x) + len(y)) < len(x)
    distances = np.sqrt(squares(z))
    np.fill_diagonal(distances, np.inf)
    found = []
    for row in distances:
        near = np.argsort(row)[:k]
        low, high = 1e-8, 1e8
        for _ in range(200):
            beta = np.sqrt(low * high)
            p = np.exp(-beta * (row[near] - row[near].min()))
            p /= p.sum()
            flat = -(p * np.log(np.maximum(p, 1e-300))).sum() > np.log(perplexity)
            low, high = (beta, high) if flat else (low, beta)
        share = p[first[near]].sum()
        found.append(1 / (share**2 + (1 - share) ** 2))
    return float(np.median(found) - 1)


def test_ilisi_agrees_with_a_plain_loop() -> None:
    x, y = clouds(shift=1.0)
    assert ilisi(x, y, neighbours=45, perplexity=15) == pytest.approx(reference_ilisi(x, y, 45, 15), abs=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_ilisi_is_that_of_scib_metrics(shift: float) -> None:
    from scib_metrics import ilisi_knn
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    x, y = clouds(150, 150, shift=shift)
    both = np.concatenate([x, y])
    distances, indices = NearestNeighbors(n_neighbors=91).fit(both).kneighbors(both)  # the cell itself and 90 more
    known = NeighborsResults(indices=indices, distances=distances)
    expected = ilisi_knn(known, np.repeat([0, 1], 150), perplexity=30, scale=True)
    assert ilisi(x, y) == pytest.approx(float(expected), abs=1e-4)


def test_ilisi_runs_from_apart_to_mixed() -> None:
    x, y = clouds(n=100, m=100, shift=0.0)
    assert ilisi(x, y) > 0.9
    assert ilisi(x, y + 1000) < 0.05


def test_ks_distance_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.poisson(5, 80), rng.poisson(6, 50)
    assert ks_distance(x, y) == pytest.approx(scipy.stats.ks_2samp(x, y).statistic)


def test_correlations_ignore_positions_that_are_not_finite() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    b += a
    expected = scipy.stats.spearmanr(a[1:], b[1:]).statistic
    a[0] = np.nan
    assert spearman(a, b) == pytest.approx(expected)


def test_gene_correlation_error_sees_what_gene_means_do_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 1)) + 0.3 * rng.normal(size=(400, 8)) + np.arange(8)
    shuffled = np.stack([rng.permutation(gene) for gene in x.T], 1)
    assert mean_pearson(x, shuffled) == pytest.approx(1)
    assert correlation_error(x, shuffled) > 0.8
    assert correlation_error(x, x) == 0


@pytest.mark.parametrize("distance", [mmd, energy_distance, sinkhorn_wasserstein])
def test_empty_sets_are_refused(distance) -> None:
    with pytest.raises(ValueError, match="shapes"):
        distance(np.zeros((0, 3)), np.zeros((4, 3)))
