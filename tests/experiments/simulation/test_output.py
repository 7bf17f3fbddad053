"""Files that are there are not lost, and what is written can be used."""

import shutil

import anndata
import pytest

from experiments.__main__ import run


@pytest.fixture
def cells(screen_file, tmp_path):
    path = tmp_path / "cells.h5ad"
    anndata.read_h5ad(screen_file)[:6].copy().write_h5ad(path)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["impute", "--share", "0.5"],
        ["counterfactual", "--perturbation", "non-targeting", "--keep-share", "0.5"],
        ["embed"],
        ["score"],
        ["score", "--out", "{folder}/scores.csv", "--genes", "{cells}"],
    ],
)
def test_cells_are_not_replaced_by_what_is_made_of_them(runs, cells, tmp_path, arguments, capsys):
    before = cells.read_bytes()
    name, *more = (text.format(folder=tmp_path, cells=cells) for text in arguments)
    out = [] if "--out" in more else ["--out", str(cells)]
    assert run([name, "tiny", "--runs", str(runs), "--cells", str(cells), *more, *out]) == 2
    assert "is read by this command and would be lost" in capsys.readouterr().err
    assert cells.read_bytes() == before


def test_only_cells_that_a_run_wrote_are_replaced(runs, loaded, store, cells, tmp_path, capsys):
    mine, label = tmp_path / "mine.store", loaded.plan.vocabulary.perturbation.labels[0]
    shutil.copytree(store, mine)
    asked = ["--condition.cell_line", "line_A", "--condition.target_gene", label]
    sample = ["sample", "tiny", "--runs", str(runs), *asked]
    for there in (mine, cells):
        assert run([*sample, "--n", "3", "--out", str(there)]) == 2
        assert "holds no cells that a run wrote" in capsys.readouterr().err
    assert (mine / "splits").is_dir() and anndata.read_h5ad(cells).n_obs == 6
    for n in (3, 5):
        assert run([*sample, "--n", str(n), "--out", str(tmp_path / "drawn.h5ad")]) == 0
    assert anndata.read_h5ad(tmp_path / "drawn.h5ad").n_obs == 5


def test_conditions_are_not_replaced_by_their_cells(runs, loaded, tmp_path, capsys):
    conditions = tmp_path / "conditions.csv"
    conditions.write_text("cell_line,target_gene,n_cells\nline_A,non-targeting,2\n")
    before = conditions.read_bytes()
    asked = ["--conditions", str(conditions), "--out", str(conditions)]
    assert run(["sample", "tiny", "--runs", str(runs), *asked]) == 2
    assert "would be lost" in capsys.readouterr().err and conditions.read_bytes() == before
