import dataclasses

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, RandomCells, ingest, make_split
from data_pipelines.derived import coexpression_features, context_histograms, control_means, down_regulated
from data_pipelines.statistics import load_statistics

COLUMNS = Columns(context=("line",), perturbation="target", control=("ctrl",))
GENES = 30


@pytest.fixture
def store(tmp_path):
    """Genes 0-9 and 10-19 vary together; target A turns genes 0, 1, 2 down in line x only."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for line in "xy":
        for target, n in (("ctrl", 300), ("A", 100), ("B", 5)):
            program = rng.normal(size=(n, 2))
            rate = np.full((n, GENES), 3.0)
            rate[:, :10] *= np.exp(0.8 * program[:, :1])
            rate[:, 10:20] *= np.exp(0.8 * program[:, 1:])
            if target == "A" and line == "x":
                rate[:, :3] *= 0.2
            rows.append(rng.poisson(rate))
            labels += [(line, target)] * n
    counts = scipy.sparse.csr_matrix(np.concatenate(rows).astype(np.int32))
    obs = pd.DataFrame(labels, columns=["line", "target"], index=[str(i) for i in range(len(labels))])
    anndata.AnnData(counts, obs=obs).write_h5ad(tmp_path / "a.h5ad")
    return ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=COLUMNS)


def test_histograms_by_context_add_up_to_the_whole(store):
    split = make_split(store, RandomCells())
    parts = context_histograms(store, split)
    assert set(parts) == {("x",), ("y",)}
    np.testing.assert_array_equal(sum(parts.values()), load_statistics(store, split).histogram)
    again = context_histograms(store, split)  # as read back
    np.testing.assert_array_equal(again["x",], parts["x",])


def test_features_tell_which_genes_vary_together(store):
    split = make_split(store, RandomCells())
    features = coexpression_features(store, split, components=4)
    assert features.shape == (GENES, 4)
    unit = features[:, :2] / np.linalg.norm(features[:, :2], axis=1, keepdims=True)
    alike = unit @ unit.T
    assert alike[:10, :10].min() > 0.9
    assert alike[10:20, 10:20].min() > 0.9
    assert np.abs(alike[:10, 10:20]).max() < 0.9


def test_features_are_those_of_an_exact_decomposition(store):
    split = make_split(store, RandomCells())
    rows = split.train[store.obs["target"].iloc[split.train] == "ctrl"]
    x = store.counts(rows).toarray().astype(float)
    x = np.log1p(x / x.sum(1, keepdims=True) * 1e4)
    _, values, vectors = np.linalg.svd(x - x.mean(0), full_matrices=False)
    exact = vectors[:2].T * values[:2] / np.sqrt(len(rows))
    found = coexpression_features(store, split, components=2)
    np.testing.assert_allclose(np.abs(found), np.abs(exact), atol=5e-3)


def test_genes_turned_down_are_found_in_their_context(store):
    found = down_regulated(store, make_split(store, RandomCells()))
    assert set(found) == {("x", "A"), ("y", "A")}  # B has too few cells
    assert {0, 1, 2} <= set(found["x", "A"].tolist())
    assert len(found["x", "A"]) <= 5
    assert not {0, 1, 2} & set(found["y", "A"].tolist())


def test_means_of_controls_are_those_of_their_context(store):
    split = make_split(store, RandomCells())
    means = control_means(store, split)
    assert set(means) == {("x",), ("y",)}
    obs = store.obs.iloc[split.train]
    rows = split.train[(obs["line"] == "y") & (obs["target"] == "ctrl")]
    np.testing.assert_allclose(means["y",], np.asarray(store.counts(rows).mean(0)).ravel())


def test_no_control_no_features(store):
    split = make_split(store, RandomCells(test=0.5))
    treated = split.train[store.obs["target"].iloc[split.train] != "ctrl"]
    with pytest.raises(InputError, match="has 0 training controls"):
        coexpression_features(store, dataclasses.replace(split, train=treated))


def test_counts_of_test_cells_change_nothing_that_is_learned_from(store, tmp_path):
    """Statistics, features, down-regulated sets and vocabulary: byte by byte."""
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    split = make_split(store, RandomCells())
    held_out = store.obs["_input_index"].to_numpy()[np.concatenate([split.val, split.test])]
    changed = adata.X.toarray()
    changed[held_out] = np.where(changed[held_out] > 0, changed[held_out] * 7 + 1, 0)
    adata.X = scipy.sparse.csr_matrix(changed)
    adata.write_h5ad(tmp_path / "b.h5ad")
    other = ingest(tmp_path / "b.h5ad", tmp_path / "t", columns=COLUMNS)
    other_split = make_split(other, RandomCells())
    np.testing.assert_array_equal(split.train, other_split.train)
    stored = []
    for one, its in ((store, split), (other, other_split)):
        statistics = load_statistics(one, its)
        context_histograms(one, its)
        coexpression_features(one, its)
        down_regulated(one, its)
        control_means(one, its)
        folder = one.path / f"statistics/{its.hash}"
        stored.append({key: folder.read(key) for key in folder.list_keys() if key.endswith(".npz")})
        stored[-1]["vocabulary"] = statistics.vocabulary.hash
    assert len(stored[0]) == 6
    assert stored[0] == stored[1]
