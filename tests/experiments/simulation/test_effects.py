import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from experiments.simulation.effects import Drawing, rank_perturbations


@pytest.fixture(scope="module")
def effects(loaded, sampler, targets):
    return loaded.predict_effect("line_A", list(targets[:3]), n=40, sampler=sampler)


def log_mean(cells):
    counts = np.asarray(cells.X.todense(), np.float64)
    return np.log1p(counts * 1e4 / np.maximum(counts.sum(1, keepdims=True), 1)).mean(0)


def test_an_effect_is_the_difference_of_sampled_means(loaded, sampler, targets, effects):
    names = ["cell_line", "target_gene", "n_cells"]
    rows = [("line_A", targets[1], 40), ("line_A", "non-targeting", 40)]
    cells = loaded.sample(pd.DataFrame(rows, columns=names), sampler=sampler)
    delta = log_mean(cells[:40]) - log_mean(cells[40:])
    np.testing.assert_allclose(effects.delta.loc[targets[1]], delta, atol=1e-9)
    np.testing.assert_allclose(effects.control, log_mean(cells[40:]), atol=1e-9)


def test_the_de_table_has_p_and_fdr_of_every_expressed_gene(effects, targets):
    table = effects.de[effects.de["perturbation"] == targets[0]]
    assert table["p"].is_monotonic_increasing and table["p"].between(0, 1).all()
    assert (table["fdr"] >= table["p"] - 1e-12).all() and table["gene"].is_unique and len(table) > 20
    strong = table[table["log2_fold_change"].abs() > 1]
    moved = effects.delta.loc[targets[0], strong["gene"]]
    assert (np.sign(moved.to_numpy()) == np.sign(strong["log2_fold_change"].to_numpy())).all()


def test_the_perturbation_that_makes_the_wanted_state_comes_first(loaded, sampler, targets, effects):
    wanted = effects.control + effects.delta.loc[targets[2]]
    drawing = Drawing(n=40, sampler=sampler)
    ranking = rank_perturbations(loaded, {"cell_line": "line_A"}, wanted, list(targets[:3]), drawing)
    assert ranking.index[0] == targets[2] and ranking["distance"].iloc[0] < 1e-9
    assert ranking["pearson"].iloc[0] == pytest.approx(1.0) and ranking["distance"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("context", "names", "message"),
    [
        ("line_Z", ["non-targeting"], "'line_Z'"),
        ({"donor": "a"}, ["non-targeting"], "must name cell_line"),
        ("line_A", ["NOPE9"], "'NOPE9'"),
        ("line_A", [], "list of perturbations"),
    ],
)
def test_what_cannot_be_predicted_is_refused(loaded, sampler, context, names, message):
    with pytest.raises(InputError, match=message):
        loaded.predict_effect(context, names, n=4, sampler=sampler)


def test_a_wanted_state_must_share_genes_with_the_panel(loaded, sampler, targets):
    with pytest.raises(InputError, match="it has 0 such genes of 1"):
        rank_perturbations(loaded, "line_A", pd.Series({"X": 1.0}), targets[:1], Drawing(n=4, sampler=sampler))
