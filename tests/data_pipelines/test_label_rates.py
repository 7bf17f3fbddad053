import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, RandomCells, ingest, load_statistics, make_split
from data_pipelines.label_rates import label_rates
from lingshu_jax.vocabulary import CONTROL_ROW, NULL_ROW

GENES = 300
RNG = np.random.default_rng(0)
MEAN = np.exp(RNG.normal(0, 1.2, GENES))
LINE = {"A": np.zeros(GENES), "B": RNG.normal(0, 0.7, GENES)}
TARGET = {"ctrl": np.zeros(GENES), "X": RNG.normal(0, 0.6, GENES), "none": np.zeros(GENES)}
ONLY_IN_B = np.where(np.arange(GENES) < 60, RNG.normal(0, 0.8, GENES), 0.0)
COLUMNS = Columns(context=("line",), perturbation="target", control=("ctrl",))


def cells(per_condition=300, *, without=(), seed=1):
    """Cells of every line and target; X has another effect in B."""
    rng, counts, obs = np.random.default_rng(seed), [], []
    for line, of_line in LINE.items():
        for target, of_target in TARGET.items():
            if (line, target) in without:
                continue
            rate = MEAN * np.exp(of_line + of_target + ONLY_IN_B * (line == "B" and target == "X"))
            depth = rng.lognormal(0, 0.3, (per_condition, 1)) / rate.sum() * MEAN.sum()
            counts.append(rng.poisson(rng.gamma(4.0, depth * rate / 4.0)))
            obs += [(line, target)] * per_condition
    var = pd.DataFrame(index=[f"g{i}" for i in range(GENES)])
    table = pd.DataFrame(obs, columns=["line", "target"], index=[f"c{i}" for i in range(len(obs))])
    return anndata.AnnData(scipy.sparse.csr_matrix(np.concatenate(counts)), obs=table, var=var)


def rates_of(tmp_path, *adatas, rank=16):
    paths = [tmp_path / f"{i}.h5ad" for i in range(len(adatas))]
    for adata, path in zip(adatas, paths, strict=True):
        adata.write_h5ad(path)
    store = ingest(paths, tmp_path / "store", columns=COLUMNS)
    split = make_split(store, RandomCells())
    statistics = load_statistics(store, split)
    rates = label_rates(store, split, statistics, statistics.vocabulary, rank=rank)
    return store, split, statistics, rates


def log_rate(rates, vocabulary, line, target):
    line, target = vocabulary.field("line").row(line), vocabulary.field("target").row(target)
    rows = rates.tables["line"][line] + rates.tables["target"][target] + rates.tables["line x target"][line, target]
    return rates.basis @ rows


def agreement(told, truth):
    """Correlation over genes that are expressed enough to tell."""
    some = MEAN > 0.5
    return np.corrcoef(told[some], truth[some])[0, 1]


def test_effects_of_labels_and_of_their_pairs_are_found(tmp_path):
    _, _, statistics, rates = rates_of(tmp_path, cells())
    vocabulary = statistics.vocabulary
    between = log_rate(rates, vocabulary, "B", "ctrl") - log_rate(rates, vocabulary, "A", "ctrl")
    assert agreement(between, LINE["B"]) > 0.97
    for line, extra in (("A", 0.0), ("B", ONLY_IN_B)):
        effect = log_rate(rates, vocabulary, line, "X") - log_rate(rates, vocabulary, line, "ctrl")
        assert agreement(effect, TARGET["X"] + extra) > 0.95
        nothing = log_rate(rates, vocabulary, line, "none") - log_rate(rates, vocabulary, line, "ctrl")
        assert np.abs(nothing).mean() < 0.1 * np.abs(effect).mean()


def test_a_pair_without_cells_is_told_by_its_labels(tmp_path):
    _, _, statistics, rates = rates_of(tmp_path, cells(without=[("A", "X")]))
    line, target = (statistics.vocabulary.field(name) for name in ("line", "target"))
    assert not rates.tables["line x target"][line.row("A"), target.row("X")].any()
    effect = rates.basis @ (rates.tables["target"][target.row("X")] - rates.tables["target"][CONTROL_ROW])
    assert agreement(effect, TARGET["X"] + ONLY_IN_B) > 0.9  # all that was seen of X


def test_what_is_left_out_has_no_rate(tmp_path):
    *_, rates = rates_of(tmp_path, cells(60))
    assert not rates.tables["line"][NULL_ROW].any() and not rates.tables["target"][NULL_ROW].any()
    assert not rates.tables["line x target"][NULL_ROW].any()


def test_few_cells_say_less_than_many(tmp_path):
    (tmp_path / "few").mkdir()
    errors = []
    for folder, n in (("few", 12), ("", 300)):
        _, _, statistics, rates = rates_of(tmp_path / folder, cells(n))
        effect = log_rate(rates, statistics.vocabulary, "A", "none") - log_rate(
            rates, statistics.vocabulary, "A", "ctrl"
        )
        errors.append(np.abs(effect[MEAN > 0.5]).mean())
    # 12 cells of a gene with mean 1 have an error of 0.3 on their own.
    assert errors[0] < 0.15 and errors[1] < 0.05


def test_a_label_of_empty_cells_says_nothing_of_genes(tmp_path):
    empty = cells(30)
    empty.X = empty.X.multiply((empty.obs["target"] != "X").to_numpy()[:, None]).tocsr().astype(int)
    _, _, statistics, rates = rates_of(tmp_path, empty)
    row = statistics.vocabulary.field("target").row("X")
    np.testing.assert_allclose(rates.basis @ rates.tables["target"][row], 0.0, atol=1e-6)


def test_genes_that_a_source_lacks_are_no_zeros(tmp_path):
    """The second file measured two thirds of the genes: rates of the others are those of the first."""
    first, second = cells(seed=1), cells(seed=2)[:, : GENES * 2 // 3].copy()
    second.obs_names = [f"d{i}" for i in range(second.n_obs)]
    _, _, statistics, rates = rates_of(tmp_path, first, second)
    effect = log_rate(rates, statistics.vocabulary, "A", "X") - log_rate(rates, statistics.vocabulary, "A", "ctrl")
    late = (np.arange(GENES) >= GENES * 2 // 3) & (MEAN > 0.5)
    assert np.corrcoef(effect[late], TARGET["X"][late])[0, 1] > 0.95


def test_a_low_rank_keeps_the_strongest(tmp_path):
    *_, statistics, rates = rates_of(tmp_path, cells(), rank=2)
    assert rates.basis.shape == (GENES, 2)
    between = log_rate(rates, statistics.vocabulary, "B", "ctrl") - log_rate(rates, statistics.vocabulary, "A", "ctrl")
    assert agreement(between, LINE["B"]) > 0.8


def test_many_labels_are_told_as_well_by_some_singular_vectors(tmp_path, monkeypatch):
    *_, exact = rates_of(tmp_path, cells(100), rank=3)
    monkeypatch.setattr("data_pipelines.label_rates._LARGEST_EXACT", 1)
    (tmp_path / "again").mkdir()
    *_, some = rates_of(tmp_path / "again", cells(100), rank=3)
    for name, table in exact.tables.items():
        np.testing.assert_allclose(some.tables[name] @ some.basis.T, table @ exact.basis.T, atol=1e-4)


def test_it_is_computed_once_and_by_training_cells_alone(tmp_path, monkeypatch):
    store, split, statistics, rates = rates_of(tmp_path, cells(60))
    read = []
    monkeypatch.setattr(type(store), "counts", lambda self, rows: read.append(rows) or pytest.fail("read again"))
    again = label_rates(store, split, statistics, statistics.vocabulary, rank=16)
    np.testing.assert_array_equal(again.basis, rates.basis)
    monkeypatch.undo()
    counts = type(store).counts
    monkeypatch.setattr(type(store), "counts", lambda self, rows: read.append(np.asarray(rows)) or counts(self, rows))
    label_rates(store, split, statistics, statistics.vocabulary, rank=8)
    assert set(np.concatenate(read)) == set(split.train)


def test_dispersion_is_that_within_labels(tmp_path):
    """Counts are gamma-Poisson with shape 4 in every condition; all cells together vary far more."""
    _, _, statistics, rates = rates_of(tmp_path, cells())
    told = (MEAN > 2) & (np.abs(LINE["B"]) > 0.7)
    assert np.median(rates.dispersion[told]) == pytest.approx(4.0, rel=0.15)
    assert np.median(statistics.dispersion[told]) < 3.0
