"""Joint principal components."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.decomposition import PCA

from experiments.evaluation import cloud


@pytest.mark.parametrize("limit", [0, 10_000], ids=["iterative", "full"])
def test_components_are_those_of_the_centred_joint_cells(limit, monkeypatch) -> None:
    monkeypatch.setattr(cloud, "_ALL_VECTORS", limit)
    rng = np.random.default_rng(0)
    x, y = rng.poisson(np.exp(rng.normal(size=40)), (30, 40)), rng.poisson(1.0, (20, 40))
    found = cloud.joint_components([scipy.sparse.csr_matrix(part, dtype=float) for part in (x, y)], components=6)
    expected = PCA(6, svd_solver="full").fit_transform(np.concatenate([x, y]).astype(float))
    assert [len(part) for part in found] == [30, 20]
    np.testing.assert_allclose(np.abs(np.concatenate(found)), np.abs(expected), atol=1e-6)
