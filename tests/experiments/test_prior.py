import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import RandomCells, ingest, make_split
from data_pipelines.columns import Columns
from data_pipelines.errors import InputError
from data_pipelines.statistics import training_vocabulary
from experiments.prior import NOT_TOLD, NoPrior, TablePrior, TrainingPrior, parse_prior, table_counts, training_counts

COLUMNS = Columns(context=("line",), perturbation="target", control=("ctrl",))
GENES = [f"g{i}" for i in range(20)]


def screen(tmp_path, down, *, contexts=("x", "y", "z"), seed=0):
    """Target A turns genes down, other ones in each context; genes 0..9 have mean 12, the others .8."""
    rng = np.random.default_rng(seed)
    counts, obs = [], []
    for context in contexts:
        for target in ("ctrl", "A"):
            mean = np.repeat([12.0, 0.8], 10)
            if target == "A":
                mean[down[context]] *= 0.15
            counts.append(rng.poisson(mean, size=(80, 20)))
            obs += [{"line": context, "target": target}] * 80
    index = [f"c{i}" for i in range(len(obs))]
    adata = anndata.AnnData(scipy.sparse.csr_matrix(np.concatenate(counts)), obs=pd.DataFrame(obs, index=index))
    adata.var_names = GENES
    path = tmp_path / f"screen-{seed}-{len(contexts)}-{sum(map(sum, down.values()))}.h5ad"
    adata.write_h5ad(path)
    store = ingest(path, path.with_suffix(".store"), columns=COLUMNS)
    split = make_split(store, RandomCells())
    return store, split, training_vocabulary(store, split)


ASKED = pd.DataFrame({"line": ["x", "y", "x"], "target": ["A", "A", "ctrl"]})
DOWN = {"x": [0, 1], "y": [1, 2, 15], "z": [3]}


def injected(counts):
    return [np.flatnonzero(row != NOT_TOLD).tolist() for row in counts]


def test_a_perturbation_brings_what_it_turns_down_in_every_other_context(tmp_path):
    store, split, vocabulary = screen(tmp_path, DOWN)
    counts = training_counts(TrainingPrior(rule="paper"), ASKED, vocabulary, store, split)
    of_x, of_y, of_control = injected(counts)
    assert {1, 2, 3, 15} <= set(of_x) and 0 not in of_x
    assert {0, 1, 3} <= set(of_y) and not {2, 15} & set(of_y)
    assert of_control == []
    assert set(np.unique(counts)) == {1, NOT_TOLD}


def test_genes_that_the_context_hardly_expresses_stay_masked(tmp_path):
    store, split, vocabulary = screen(tmp_path, DOWN)
    of_x, of_y, _ = injected(training_counts(TrainingPrior(), ASKED, vocabulary, store, split))
    assert {1, 2, 3} <= set(of_x) and not set(of_x) & set(range(10, 20))
    assert {0, 1, 3} <= set(of_y) and not set(of_y) & set(range(10, 20))


def test_the_context_itself_tells_nothing_of_its_perturbed_cells(tmp_path):
    told = []
    for of_x in ([0, 1], [5, 6, 7, 8]):
        store, split, vocabulary = screen(tmp_path, {**DOWN, "x": of_x})
        told.append(training_counts(TrainingPrior(rule="paper"), ASKED[:1], vocabulary, store, split))
    np.testing.assert_array_equal(*told)


def test_a_set_brings_the_genes_of_all_its_members(tmp_path):
    store, split, vocabulary = screen(tmp_path, DOWN)
    both = pd.DataFrame({"line": ["x"], "target": ["A+ctrl"]})
    paper = TrainingPrior(rule="paper")
    found, expected = (training_counts(paper, asked, vocabulary, store, split) for asked in (both, ASKED[:1]))
    np.testing.assert_array_equal(found, expected)


def test_one_context_is_refused(tmp_path):
    store, split, vocabulary = screen(tmp_path, DOWN, contexts=("x",))
    with pytest.raises(InputError, match="one context only"):
        training_counts(TrainingPrior(), ASKED[:1], vocabulary, store, split)


def test_a_table_fixes_genes_of_the_conditions_that_it_names(tmp_path):
    store, _, vocabulary = screen(tmp_path, DOWN)
    table = tmp_path / "prior.csv"
    table.write_text("target,gene,value\nA,g3,0\nA,g4,250\nctrl,g5,7\n")
    counts = table_counts(TablePrior(path=table), ASKED, vocabulary, store.panel)
    assert injected(counts) == [[3, 4], [3, 4], [5]]
    assert counts[0, [3, 4]].tolist() == [0, 250] and counts[2, 5] == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("gene,count\ng1,3\n", "missing \\['value'\\], unknown \\['count'\\]"),
        ("gene,value\nG3,1\n", "gene 'G3' is not in the run's panel \\(nearest: g3"),
        ("gene,value\ng3,1.5\n", "whole numbers >= 0"),
        ("gene,value\ng3,-1\n", "whole numbers >= 0"),
        ("", "is no csv table"),
        ("gene,value\n", "has no row"),
        ("gene,value\ng3,5\ng3,7\n", "gene 'g3' is told more than once"),
        ("line,gene,value\nX,g3,5\n", "line 'X' is not in the training vocabulary \\(nearest: x"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, text, match):
    store, _, vocabulary = screen(tmp_path, DOWN)
    table = tmp_path / "prior.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=match):
        table_counts(TablePrior(path=table), ASKED, vocabulary, store.panel)


def test_a_prior_is_named_or_a_file(tmp_path):
    (tmp_path / "p.csv").write_text("gene,value\n")
    assert parse_prior("none") == NoPrior()
    assert parse_prior("paper") == TrainingPrior(rule="paper")
    assert parse_prior(str(tmp_path / "p.csv")) == TablePrior(path=tmp_path / "p.csv")
    with pytest.raises(InputError, match="neither none, expressed or paper nor a file"):
        parse_prior("papr")
