import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, RandomCells, compute_statistics, ingest, load_statistics, make_split
from lingshu_jax.tokens import VOCAB_SIZE, encode_counts


def _store(tmp_path, name, counts, obs=None):
    obs = pd.DataFrame(obs or {}, index=[f"c{i}" for i in range(counts.shape[0])])
    var = pd.DataFrame(index=[f"g{i}" for i in range(counts.shape[1])])
    anndata.AnnData(scipy.sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(tmp_path / f"{name}.h5ad")
    return ingest(tmp_path / f"{name}.h5ad", tmp_path / name, columns=Columns(context=tuple(obs.columns)))


def _reference(X):
    """Moments of the dense training counts (n, G), written down as they are defined."""
    library = np.maximum(X.sum(1), 1)
    size = library / library.mean()
    prior = X.mean(0) + 1e-4
    mean = (X.sum(0) + 0.3 * prior * size.mean()) / (size.sum() + 0.3 * size.mean())
    expected = np.outer(size, mean)
    phi = (((X - expected) ** 2).sum(0) - X.sum(0) + 0.15) / ((expected**2).sum(0) + 3)
    return mean, 1 / np.clip(phi, 1e-3, 5), np.log(size).var()


def test_moments_and_histogram_are_those_of_the_training_cells(store, monkeypatch):
    monkeypatch.setattr("data_pipelines.statistics._BLOCK_ENTRIES", 2000)  # many blocks
    split = make_split(store, RandomCells())
    statistics = load_statistics(store, split)
    X = store.counts(split.train).toarray().astype(float)
    mean, dispersion, log_variance = _reference(X)
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(statistics.dispersion, dispersion, rtol=1e-8)
    assert statistics.library_log_variance == pytest.approx(log_variance)
    assert statistics.library_mean == pytest.approx(X.sum(1).mean())
    assert statistics.median_library == np.median(X.sum(1))
    tokens = encode_counts(X.astype(int))
    expected = np.stack([np.bincount(tokens[:, g], minlength=VOCAB_SIZE) for g in range(X.shape[1])])
    np.testing.assert_array_equal(statistics.histogram, expected)


def test_genes_a_source_did_not_measure_are_not_zeros(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.poisson(3.0, (40, 3)), rng.poisson(3.0, (60, 2))
    anndata.AnnData(scipy.sparse.csr_matrix(a), var=pd.DataFrame(index=list("xyz"))).write_h5ad(tmp_path / "a.h5ad")
    anndata.AnnData(scipy.sparse.csr_matrix(b), var=pd.DataFrame(index=list("xy"))).write_h5ad(tmp_path / "b.h5ad")
    store = ingest([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], tmp_path / "s", columns=Columns())
    split = make_split(store, RandomCells())
    statistics = load_statistics(store, split)
    of_a = int((store.source[split.train] == 0).sum())
    assert statistics.histogram.sum(1).tolist() == [len(split.train), len(split.train), of_a]
    # Every gene has mean 3 in every cell: the size factor of a cell must not depend on what its source measured.
    np.testing.assert_allclose(statistics.mean, 3.0, rtol=0.2)


def test_only_training_cells_count(tmp_path):
    """Other test and validation counts and labels: byte-identical statistics."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (100, 6))
    donors = rng.choice(["a", "b"], 100).astype(object)
    first = _store(tmp_path, "first", counts, {"donor": donors})
    split = make_split(first, RandomCells())
    unseen = first.obs["_input_index"].to_numpy()[np.concatenate([split.val, split.test])]
    counts[unseen] = rng.poisson(50.0, (len(unseen), 6))
    donors[unseen] = "c"
    second = _store(tmp_path, "second", counts, {"donor": donors})
    files = []
    for store in (first, second):
        same = make_split(store, RandomCells())
        statistics = compute_statistics(store, same)
        assert statistics.vocabulary.field("donor").labels == ("a", "b")
        files.append((store.path.path / "statistics" / same.hash / "statistics.npz").read_bytes())
    assert files[0] == files[1]


def test_vocabulary_and_cells_of_conditions(store):
    split = make_split(store, RandomCells())
    statistics = load_statistics(store, split)
    assert statistics.vocabulary.names == ("cell_line", "target_gene")
    perturbation = statistics.vocabulary.perturbation
    assert perturbation.controls == ("non-targeting",)
    assert "non-targeting" not in perturbation.labels
    assert list(perturbation.labels) == sorted(perturbation.labels)
    assert sum(statistics.cells_per_condition.values()) == len(split.train) == statistics.n_cells
    assert all(len(labels) == 2 for labels in statistics.cells_per_condition)


def test_stored_statistics_are_read_back_and_belong_to_their_split(store):
    split, other = make_split(store, RandomCells()), make_split(store, RandomCells(seed=1), name="other")
    computed = compute_statistics(store, split)
    calls = []
    read = load_statistics(store, split, progress=lambda *step: calls.append(step))
    assert not calls
    for name in ("vocabulary", "panel", "library_mean", "cells_per_condition", "n_cells"):
        assert getattr(read, name) == getattr(computed, name)
    for name in ("histogram", "mean", "dispersion"):
        np.testing.assert_array_equal(getattr(read, name), getattr(computed, name))
    folder = store.path.path / "statistics"
    (folder / split.hash).rename(folder / other.hash)
    with pytest.raises(InputError, match="statistics of split"):
        load_statistics(store, other)
    assert sorted(path.name for path in folder.iterdir()) == [other.hash]
