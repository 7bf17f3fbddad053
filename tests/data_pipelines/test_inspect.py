import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, inspect_files


def test_a_screen_is_ready_with_its_columns(screen_file):
    found = inspect_files(screen_file)
    assert found.ready
    assert found.lines()[-1] == "ready to ingest"
    assert found.ingest_arguments() == [
        "--columns.context",
        "cell_line",
        "--columns.perturbation",
        "target_gene",
        "--columns.control",
        "non-targeting",
        "--columns.batch",
        "gem_group",
    ]


def test_figures_are_those_of_the_counts(screen, screen_file):
    found = inspect_files(screen_file)
    np.testing.assert_array_equal(found.library, np.asarray(screen.X.sum(1)).ravel())
    np.testing.assert_array_equal(found.expressed, np.diff(screen.X.indptr))
    assert found.largest == screen.X.max()
    sizes = screen.obs.groupby(["cell_line", "target_gene"], observed=True).size()
    assert dict(found.conditions) == {tuple(key): n for key, n in sizes.items()}


def test_another_slot_with_the_counts_is_taken_and_said(screen, tmp_path):
    logged = screen.copy()
    logged.layers["counts"] = screen.X.copy()
    logged.X = screen.X.astype(np.float32).log1p()
    logged.write_h5ad(tmp_path / "a.h5ad")
    found = inspect_files(tmp_path / "a.h5ad")
    assert found.ready
    assert found.layer == "counts"
    assert found.ingest_arguments()[-2:] == ["--layer", "counts"]
    assert any("X holds fractional values" in note for note in found.notes)


def test_knock_downs_that_did_not_work_are_reported(tmp_path):
    rng = np.random.default_rng(0)
    target = np.repeat(["ctrl", "A", "B"], 200)
    counts = rng.poisson(20.0, (600, 4))
    counts[target == "A", 0] = rng.poisson(1.0, 200)  # down to 5 %
    file = anndata.AnnData(counts, pd.DataFrame({"target": target}), pd.DataFrame(index=[*"ABCD"]))
    file.obs_names, path = [f"c{i}" for i in range(600)], tmp_path / "a.h5ad"
    file.write_h5ad(path)
    found = inspect_files(path)
    (_, least, kept), (_, most, down) = found.knockdown.residual
    assert (least, most) == ("B", "A")
    assert kept == pytest.approx(1.0, abs=0.05)
    assert down == pytest.approx(0.06, abs=0.03)
    assert found.knockdown.left_out["target not down"] == 200
    assert "B in all cells" in "\n".join(found.lines())


def test_perturbations_that_are_no_genes_have_no_knock_down(screen, tmp_path):
    other = screen.copy()
    other.obs["target_gene"] = "drug " + other.obs["target_gene"].astype(str)
    other.obs.loc[other.obs["target_gene"] == "drug non-targeting", "target_gene"] = "DMSO"
    other.write_h5ad(tmp_path / "a.h5ad")
    assert inspect_files(tmp_path / "a.h5ad").knockdown is None


@pytest.mark.parametrize(("value", "said"), [(0.5, "fractional"), (-1.0, "negative"), (np.nan, "not finite")])
def test_what_must_be_fixed_is_said_in_one_line(value, said, tmp_path):
    dense = np.ones((5, 3))
    dense[2, 1] = value
    anndata.AnnData(dense).write_h5ad(tmp_path / "a.h5ad")
    found = inspect_files(tmp_path / "a.h5ad")
    assert not found.ready
    assert len(found.problems) == 1
    assert said in found.problems[0]
    assert "cell 2" in found.problems[0]
    assert found.lines()[-1].startswith("not ready to ingest")


def test_duplicate_genes_and_foreign_files_are_problems(screen, screen_file, tmp_path):
    twice = anndata.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["a", "b", "a"]))
    twice.write_h5ad(tmp_path / "twice.h5ad")
    assert "duplicate gene names (a)" in inspect_files(tmp_path / "twice.h5ad").problems[0]
    foreign = screen.copy()
    foreign.var_names = [f"ENSG{i:011d}" for i in range(screen.n_vars)]
    foreign.write_h5ad(tmp_path / "foreign.h5ad")
    found = inspect_files([screen_file, tmp_path / "foreign.h5ad"])
    assert "no gene in common" in found.problems[0]
    assert found.files[1].gene_ids == "Ensembl ids"


def test_notes_tell_what_will_not_work(tmp_path):
    target = np.array(["ctrl"] * 60 + ["g0"] * 60 + ["OUT"] * 60, dtype=object)
    donor = np.array((["a", "b", None] * 60)[:180], dtype=object)
    obs = pd.DataFrame({"target": target, "donor": donor}, index=[f"c{i}" for i in range(180)])
    var = pd.DataFrame(index=["g0", "g1"])
    anndata.AnnData(scipy.sparse.csr_matrix(np.ones((180, 2))), obs=obs, var=var).write_h5ad(tmp_path / "a.h5ad")
    text = "\n".join(inspect_files(tmp_path / "a.h5ad").lines())
    assert "60 cells have no donor: they get the label 'unknown'" in text
    assert "1 of 2 targets" in text
    assert "OUT" in text
    assert "9 of 9 conditions have < 30 cells" in text


def test_given_columns_are_checked_and_kept(screen_file):
    columns = Columns(context=("gem_group",))
    assert inspect_files(screen_file, columns=columns).columns == columns
    with pytest.raises(InputError, match="present: cell_line"):
        inspect_files(screen_file, columns=Columns(context=("donor",)))


def test_a_file_without_a_single_count_is_not_ready(tmp_path):
    anndata.AnnData(np.zeros((5, 3))).write_h5ad(tmp_path / "a.h5ad")
    assert inspect_files(tmp_path / "a.h5ad").problems == ("every count is zero: there is nothing to learn from.",)
