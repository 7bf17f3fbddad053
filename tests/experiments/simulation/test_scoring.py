import anndata
import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import run


@pytest.fixture(scope="module")
def real(screen_file):
    cells = anndata.read_h5ad(screen_file)
    return cells[:: len(cells) // 10][:10].copy()


def test_genes_sum_to_the_bound_of_the_cells(runs, loaded, real, tmp_path):
    real.write_h5ad(tmp_path / "cells.h5ad")
    out, genes = tmp_path / "scores.csv", tmp_path / "genes.csv"
    given = ["--cells", str(tmp_path / "cells.h5ad"), "--draws", "4", "--out", str(out), "--genes", str(genes)]
    assert run(["score", "tiny", "--runs", str(runs), *given]) == 0
    scores, surprise = pd.read_csv(out, index_col=0), pd.read_csv(genes, index_col=0)
    assert scores.index.tolist() == real.obs_names.tolist()
    np.testing.assert_allclose(surprise["nats"].sum(), scores["nats"].mean(), rtol=1e-4)
    np.testing.assert_allclose(scores["nats_per_gene"], scores["nats"] / 60)
    assert (scores["standard_error"] > 0).all() and surprise["nats"].is_monotonic_decreasing
    python = loaded.score(real, draws=4)
    np.testing.assert_allclose(python["nats"], scores["nats"])


def test_genes_that_were_not_measured_count_for_nothing(loaded, real):
    scores = loaded.score(real[:, :40].copy(), draws=4)
    assert (scores["genes"] == 40).all()
    assert (scores["nats"].to_numpy() < loaded.score(real, draws=4)["nats"].to_numpy()).all()


def test_labels_by_bayes_are_the_softmax_of_bounds_under_each_label(loaded, real):
    unlabelled = real.copy()
    unlabelled.obs = unlabelled.obs.drop(columns="cell_line")
    told = loaded.score(unlabelled, by="cell_line", draws=4)
    nats = [loaded.score(unlabelled, conditions={"cell_line": line}, draws=4)["nats"] for line in ("line_A", "line_B")]
    expected = 1 / (1 + np.exp(nats[0] - nats[1]))
    np.testing.assert_allclose(told["p(line_A)"], expected, atol=1e-5)
    np.testing.assert_allclose(told.filter(like="p(").sum(axis=1), 1.0)
    assert told["label"].tolist() == ["line_A" if p >= 0.5 else "line_B" for p in told["p(line_A)"]]


def test_labels_may_be_weighed_by_their_training_cells(runs, loaded, real, tmp_path):
    real.write_h5ad(tmp_path / "cells.h5ad")
    tables = []
    for prior in ("uniform", "training"):
        out = tmp_path / f"{prior}.csv"
        given = ["--cells", str(tmp_path / "cells.h5ad"), "--draws", "2", "--out", str(out), "--label-prior", prior]
        assert run(["score", "tiny", "--runs", str(runs), "--by", "target_gene", *given]) == 0
        tables.append(pd.read_csv(out, index_col=0))
    name = "p(non-targeting)"  # there are more controls than cells of any target
    assert (tables[1][name] > tables[0][name]).all() and tables[0].filter(like="p(").shape[1] == 13


def test_representations_go_into_obsm_and_do_not_depend_on_company(runs, loaded, real, tmp_path):
    real.write_h5ad(tmp_path / "cells.h5ad")
    given = ["--cells", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "out.h5ad")]
    assert run(["embed", "tiny", "--runs", str(runs), *given]) == 0
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    rank = loaded.plan.experiment.model.factors.rank
    assert cells.obsm["X_lingshu"].shape == (10, rank) and np.isfinite(cells.obsm["X_lingshu"]).all()
    alone = loaded.embed(real[4:7].copy()).obsm["X_lingshu"]
    np.testing.assert_allclose(alone, cells.obsm["X_lingshu"][4:7], rtol=1e-5, atol=1e-7)
    assert cells.obsm["X_lingshu"].std(axis=0).max() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", "1"], "draws must be >= 2"),
        (["--by", "dose"], "'dose' is no condition field"),
        (["--label-prior", "training"], "Name the field"),
        (["--out", "nowhere/scores.csv"], "in a folder that exists"),
        (["--layer", "none"], "Choose with --layer"),
        (["--gene-column", "none"], "Choose with --gene-column"),
    ],
)
def test_bad_requests_leave_nothing(runs, screen_file, tmp_path, arguments, message, capsys):
    given = ["--cells", str(screen_file), "--out", str(tmp_path / "out.csv")]
    assert run(["score", "tiny", "--runs", str(runs), *given, *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []
