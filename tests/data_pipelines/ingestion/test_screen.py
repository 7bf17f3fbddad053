import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, ingest
from data_pipelines.ingestion.engine import Local
from data_pipelines.ingestion.pairs import read_pairs
from data_pipelines.ingestion.screen import Guides, Screen

COLUMNS = Columns(context=("line",), perturbation="target", control=("ctrl",))
GENES = ("A", "B", "C", "D")


@pytest.fixture
def file(tmp_path):
    """In line 1 A is knocked down and B is not; in line 2 both are. Nobody expresses D. E is no gene of the panel."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for line in ("1", "2"):
        for target in ("ctrl", "A", "B", "D", "E"):
            rate = np.array([10.0, 10.0, 30.0, 0.0])
            if target == "A" or (target == "B" and line == "2"):
                rate["AB".index(target)] = 1.0
            rows.append(rng.poisson(rate, (100, 4)))
            labels += [(line, target)] * 100
    obs = pd.DataFrame(labels, columns=["line", "target"], index=[str(i) for i in range(1000)])
    counts = scipy.sparse.csr_matrix(np.concatenate(rows).astype(np.int32))
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(GENES))).write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def _cells(file, **screen):
    store = ingest(file, file.parent / "s", columns=COLUMNS, screen=Screen(**screen), engine=Local(1))
    return store, store.obs.groupby(["line", "target"], observed=True).size().to_dict()


def test_perturbations_whose_target_is_not_down_are_left_out_by_context(file):
    store, cells = _cells(file, max_residual=0.3)
    assert ("1", "B") not in cells
    assert {key: n for key, n in cells.items() if key[1] in "AB"} == {("1", "A"): 100, ("2", "A"): 100, ("2", "B"): 100}
    assert cells["1", "D"] == cells["1", "E"] == 100  # cannot be judged: kept
    assert store.manifest["left_out"]["target not down"] == 100


def test_cells_whose_target_is_not_down_are_left_out(file):
    store, cells = _cells(file, max_cell_residual=0.5, min_cells=50)
    assert ("1", "B") not in cells  # what was left was fewer than 50
    assert 90 < cells["1", "A"] <= 100
    assert cells["1", "ctrl"] == 100
    place = store.obs["_input_index"].to_numpy()
    counts = anndata.read_h5ad(file).X.toarray()[place]
    knocked = (store.obs["target"] == "A").to_numpy()
    assert (counts[knocked, 0] / counts[knocked].sum(1)).max() < 0.55 * 10 / 50


def test_large_conditions_are_sampled_down_the_same_way_each_time(file, tmp_path):
    _, cells = _cells(file, most_cells=30)
    assert set(cells.values()) == {30}
    again = ingest(file, tmp_path / "again", columns=COLUMNS, screen=Screen(most_cells=30))
    first = ingest(file, tmp_path / "s", columns=COLUMNS, screen=Screen(most_cells=30))
    np.testing.assert_array_equal(first.obs["_input_index"], again.obs["_input_index"])


def _guides(path):
    return Guides(column="guide", targets=read_pairs(path, "guide", "target"))


def test_guides_make_the_perturbation_column(file, tmp_path):
    adata = anndata.read_h5ad(file)
    adata.obs["guide"] = adata.obs.pop("target").astype(str) + "_g" + (np.arange(1000) % 2).astype(str)
    adata.write_h5ad(tmp_path / "g.h5ad")
    guides = [f"{target}_g{number},{target}" for target in ("ctrl", *GENES, "E") for number in (0, 1)]
    (tmp_path / "map.csv").write_text("guide,target\n" + "\n".join(guides))
    mapped = _guides(tmp_path / "map.csv")
    store = ingest(tmp_path / "g.h5ad", tmp_path / "s", columns=COLUMNS, guides=mapped)
    assert store.obs["target"].value_counts().to_dict() == dict.fromkeys(("ctrl", "A", "B", "D", "E"), 200)
    assert set(store.obs["guide"].astype(str)) == {line.split(",")[0] for line in guides if line[0] != "C"}
    (tmp_path / "few.csv").write_text("\n".join(guides[:-1]))
    with pytest.raises(InputError, match=r"1 of 10 guides have no target \(E_g1\)"):
        ingest(tmp_path / "g.h5ad", tmp_path / "t", columns=COLUMNS, guides=_guides(tmp_path / "few.csv"))
    with pytest.raises(InputError, match="has a column 'target' already"):
        ingest(file, tmp_path / "t", columns=COLUMNS, guides=mapped)
    (tmp_path / "two.csv").write_text("g1,A\ng1,B\n")
    with pytest.raises(InputError, match="line 2: expected one 'guide,target' per guide"):
        _guides(tmp_path / "two.csv")


def test_filters_that_cannot_be(file, tmp_path):
    with pytest.raises(InputError, match=r"needs --columns\.perturbation"):
        ingest(file, tmp_path / "s", columns=Columns(), screen=Screen(max_residual=0.3))
    with pytest.raises(InputError, match="must be >= 0"):
        Screen(max_residual=-1)
    with pytest.raises(InputError, match="most-cells >= 1"):
        Screen(most_cells=0)


@pytest.mark.parametrize(
    ("screen", "option"),
    [
        ({"max_residual": 0.0}, "--screen.max-residual"),
        ({"max_cell_residual": 0.5}, "--screen.max-cell-residual"),
        ({"min_cells": 5}, "--screen.min-cells"),
    ],
)
def test_filters_of_perturbations_need_one(screen, option, file):
    with pytest.raises(InputError, match=f"{option} needs --columns.perturbation"):
        ingest(file, file.parent / "s", columns=Columns(), screen=Screen(**screen))
    assert [path.name for path in file.parent.iterdir()] == ["a.h5ad"]


@pytest.mark.parametrize(("label", "noted"), [("A", True), ("ctrl", False)])
def test_a_store_without_controls_is_noted(label, noted, file):
    (file.parent / "m.yaml").write_text(f"sources:\n  - path: a.h5ad\n    keep: {{target: [{label}]}}\n")
    store = ingest(file.parent / "m.yaml", file.parent / "s", columns=COLUMNS)
    assert [note for note in store.manifest["notes"] if "the filters leave no control cell" in note] == (
        store.manifest["notes"] if noted else []
    )
    assert noted == bool(store.manifest["notes"])


def test_a_filter_that_can_judge_nothing_is_refused(file, tmp_path):
    adata = anndata.read_h5ad(file)
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "e.h5ad")
    with pytest.raises(InputError, match=r"can judge no perturbation.*--genes\.column"):
        ingest(tmp_path / "e.h5ad", tmp_path / "s", columns=COLUMNS, screen=Screen(max_residual=0.3))
    assert not (tmp_path / "s").exists()
