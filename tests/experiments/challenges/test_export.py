import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from experiments.__main__ import run

PROVENANCE = {"perturbation": "target_gene", "contexts": ["cell_line"], "controls": ["ctrl"]}


def screen(conditions, *, genes, seed=0):
    """Few counts per cell: conditions are (target, line, cells); one gene more than the list, in another order."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        [(target, line) for target, line, n in conditions for _ in range(n)], columns=["target_gene", "cell_line"]
    )
    obs.index = [f"c{i}" for i in range(len(obs))]
    n = len(obs)
    places = rng.integers(0, genes + 1, (n, 20)).ravel()
    values = rng.integers(1, 9, n * 20)
    counts = scipy.sparse.csr_matrix((values, (np.repeat(np.arange(n), 20), places)), (n, genes + 1))
    var = pd.DataFrame(index=[f"g{i}" for i in range(genes, -1, -1)])
    return anndata.AnnData(counts.astype(np.int32), obs=obs, var=var, uns={"lingshu": json.dumps(PROVENANCE)})


def gene_list(tmp_path, genes):
    path = tmp_path / "genes.csv"
    path.write_text("gene_name,extra\n" + "".join(f"g{i},x\n" for i in range(genes)))
    return path


def export(tmp_path, cells, form, genes, *more):
    cells.write_h5ad(tmp_path / "samples.h5ad")
    arguments = [str(tmp_path / "samples.h5ad"), "--format", form, "--genes", str(gene_list(tmp_path, genes))]
    return run(["export", *arguments, *more])


FULL_2026 = [(target, line, 400) for target in ("A", "B") for line in ("x", "y")]


def test_2026_has_the_genes_in_order_both_columns_and_no_controls(tmp_path, capsys):
    cells = screen([*FULL_2026, ("ctrl", "x", 7)], genes=18_533)
    cells.X[3, 5] = 0
    out = tmp_path / "out.h5ad"
    assert export(tmp_path, cells, "vcc2026", 18_533, "--drop-controls", "--out", str(out)) == 0
    assert "1,600 cells x 18,533 genes, median" in capsys.readouterr().out
    written = anndata.read_h5ad(out)
    assert list(written.var_names) == [f"g{i}" for i in range(18_533)]
    assert sorted(written.obs) == ["context", "target_gene"] and written.obs["context"].tolist()[0] == "x"
    wanted = cells[:1600, [f"g{i}" for i in range(18_533)]].X
    assert (wanted != written.X).nnz == 0 and written.X.dtype == np.int32 and (written.X.data > 0).all()
    genes = str(tmp_path / "genes.csv")
    assert run(["export", str(out), "--format", "vcc2026", "--genes", genes, "--check"]) == 0


def test_2025_has_controls_under_its_own_name(tmp_path):
    out = tmp_path / "out.h5ad"
    cells = screen([("A", "x", 30), ("ctrl", "x", 20)], genes=18_080)
    assert export(tmp_path, cells, "vcc2025", 18_080, "--out", str(out)) == 0
    written = anndata.read_h5ad(out)
    assert list(written.obs) == ["target_gene"]
    assert written.obs["target_gene"].value_counts().to_dict() == {"A": 30, "non-targeting": 20}


@pytest.mark.parametrize(
    ("form", "conditions", "genes", "message"),
    [
        ("vcc2026", [*FULL_2026[:3], ("B", "y", 399)], 18_533, "not exactly 400 cells (B in y: 399)"),
        ("vcc2026", FULL_2026[:3], 18_533, "1 conditions are missing (B in y)"),
        ("vcc2026", [*FULL_2026, ("ctrl", "x", 5)], 18_533, "5 control cells"),
        ("vcc2026", FULL_2026, 18_532, "lists 18,532 genes; vcc2026 has 18,533"),
        ("vcc2025", [("A", "x", 30)], 18_080, "no control cells ('non-targeting')"),
        ("vcc2025", [("A", "x", 200_000), ("ctrl", "x", 1)], 18_080, "at most 200,000"),
    ],
)
def test_what_breaks_the_contract_is_named_and_nothing_is_written(tmp_path, form, conditions, genes, message, capsys):
    out = tmp_path / "out.h5ad"
    assert export(tmp_path, screen(conditions, genes=genes), form, genes, "--out", str(out)) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genes.csv", "samples.h5ad"]


def test_a_gene_of_the_list_that_is_missing_is_named(tmp_path, capsys):
    cells = screen(FULL_2026, genes=18_532)
    assert export(tmp_path, cells[:, 2:].copy(), "vcc2026", 18_533, "--check") == 2
    assert "2 genes of the list are not in samples.h5ad (g18531, ...; nearest: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "message"), [(0.5, "fractional values"), (-1, "negative values"), (2_000_000, "at most 1,000,000")]
)
def test_values_that_are_no_counts_or_too_many_are_refused(tmp_path, value, message, capsys):
    cells = screen(FULL_2026, genes=18_533)
    cells.X = cells.X.astype(np.float64)
    cells.X.data[cells.X.indptr[9]] = value
    assert export(tmp_path, cells, "vcc2026", 18_533, "--check") == 2
    assert message in capsys.readouterr().err


def test_a_file_of_another_form_fails_the_check_and_says_how_to_mend_it(tmp_path, capsys):
    assert export(tmp_path, screen(FULL_2026, genes=18_533), "vcc2026", 18_533, "--check") == 2
    said = capsys.readouterr().err
    assert "not those of the list in their order; its obs columns are not" in said and "--out FILE.h5ad" in said
