import anndata
import numpy as np
import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run


@pytest.fixture(scope="module")
def real(screen_file):
    cells = anndata.read_h5ad(screen_file)
    return cells[:: len(cells) // 12][:12].copy()


def dense(cells):
    return np.asarray(cells.X.todense())


def test_what_was_measured_stays_and_what_is_missing_is_drawn(loaded, sampler, real):
    partly = real[:, 10:50].copy()
    done = loaded.impute(partly, sampler=sampler)
    assert list(done.var_names) == list(loaded.plan.panel.genes)
    np.testing.assert_array_equal(dense(done)[:, 10:50], dense(partly))
    assert dense(done)[:, :10].sum() > 0 and done.X.dtype == np.int32
    assert done.obs["cell_line"].tolist() == real.obs["cell_line"].tolist()
    some = loaded.impute(partly[3:7].copy(), sampler=sampler)
    np.testing.assert_array_equal(dense(some), dense(done)[3:7])


def test_a_hidden_gene_is_not_looked_at(loaded, sampler, real):
    gene = real.var_names[4]
    told = real.copy()
    told.X[:, 4] = 90
    one, other = (loaded.impute(cells, hide=[gene], sampler=sampler) for cells in (real, told))
    np.testing.assert_array_equal(dense(one), dense(other))
    assert (dense(one)[:, 4] != 90).all()
    kept = np.arange(real.n_vars) != 4
    np.testing.assert_array_equal(dense(one)[:, kept], dense(real)[:, kept])


def test_a_share_of_each_cell_is_hidden(loaded, sampler, real):
    loud = real.copy()
    loud.X[:] = 95
    done = loaded.impute(loud, share=0.5, sampler=sampler)
    stays = (dense(done) == 95).mean(axis=1)
    assert (stays > 0.2).all() and (stays < 0.8).all() and len(set(stays)) > 1


def test_an_expectation_is_the_mean_of_draws(loaded, sampler, real):
    partly = real[:, 10:].copy()
    mean = loaded.impute(partly, expectation=3, sampler=sampler)
    assert mean.X.dtype == np.float32
    np.testing.assert_allclose(dense(mean) * 3, np.round(dense(mean) * 3), atol=1e-3)
    np.testing.assert_array_equal(dense(mean)[:, 10:], dense(partly))
    once = loaded.impute(partly, expectation=1, sampler=sampler)
    np.testing.assert_array_equal(dense(once), dense(loaded.impute(partly, sampler=sampler)))


def test_a_counterfactual_keeps_the_chosen_genes_and_tells_both_labels(loaded, sampler, real, targets):
    kept = list(real.var_names[5:15])
    cells = loaded.counterfactual(real, targets[0], keep=kept, sampler=sampler)
    np.testing.assert_array_equal(dense(cells)[:, 5:15], dense(real)[:, 5:15])
    assert (cells.obs["target_gene"] == targets[0]).all()
    assert cells.obs["original_target_gene"].tolist() == real.obs["target_gene"].tolist()
    others = np.delete(np.arange(real.n_vars), np.arange(5, 15))
    assert (dense(cells)[:, others] != dense(real)[:, others]).any()


def test_all_kept_is_the_cell_itself_and_which_share_is_kept_does_not_depend_on_the_label(
    loaded, sampler, real, targets
):
    same = loaded.counterfactual(real, targets[0], keep_share=1.0, sampler=sampler)
    np.testing.assert_array_equal(dense(same), dense(real))
    loud = real.copy()
    loud.X[:] = 95
    one, other = (loaded.counterfactual(loud, t, keep_share=0.4, sampler=sampler) for t in targets[:2])
    agreed = (dense(one) == 95) & (dense(other) == 95)
    assert abs(agreed.mean() - 0.4) < 0.1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda cells: cells.obs.drop(columns="cell_line"), {}, "no obs column 'cell_line'.*--condition.cell_line"),
        (lambda cells: cells.obs.assign(cell_line="line_Z"), {}, "'line_Z'"),
        (lambda cells: cells.obs, {"hide": ["nope"]}, "gene 'nope' is not in the run's panel"),
        (lambda cells: cells.obs, {"share": 1.5}, r"in 0\.\.1"),
        (lambda cells: cells.obs, {"conditions": {"dose": "3"}}, "no condition field 'dose'"),
    ],
)
def test_cells_that_do_not_fit_are_refused(loaded, sampler, real, change, options, message):
    cells = real.copy()
    cells.obs = change(cells)
    with pytest.raises(InputError, match=message):
        loaded.impute(cells, sampler=sampler, **options)


def test_a_policy_that_is_none_is_refused(loaded, sampler, real):
    with pytest.raises(InputError, match=r"unseen='zzz' is no policy .*error, features, null"):
        loaded.impute(real, sampler=sampler, unseen="zzz")


@pytest.mark.parametrize(
    "options", [{"share": "0.5"}, {"expectation": 1.5}, {"seed": -1}, {"seed": 2**70}, {"seed": 0.5}]
)
def test_numbers_that_are_none_are_refused(loaded, sampler, real, options):
    with pytest.raises(InputError, match="got"):
        loaded.impute(real, sampler=sampler, **options)


def test_cells_of_one_name_are_drawn_apart(loaded, sampler, real):
    twins = real[[0, 0, 1]].copy()
    twins.obs_names = ["a", "a", "b"]
    drawn = dense(loaded.impute(twins, share=1.0, sampler=sampler))
    assert not np.array_equal(drawn[0], drawn[1])
    alone = real[[0]].copy()
    alone.obs_names = ["a"]
    assert np.array_equal(drawn[0], dense(loaded.impute(alone, share=1.0, sampler=sampler))[0])


def test_a_table_that_was_corrected_is_another_request(runs, real, tmp_path, capsys):
    out, given = tmp_path / "out.h5ad", tmp_path / "cells.h5ad"
    command = [
        "impute",
        "tiny",
        "--runs",
        str(runs),
        "--cells",
        str(given),
        "--out",
        str(out),
        "--share",
        "0.5",
        *STEPS,
    ]
    for batch in ("first", "second"):
        cells = real[:4].copy()
        cells.obs["day"] = batch
        cells.write_h5ad(given)
        assert run(command) == 0
        assert set(anndata.read_h5ad(out).obs["day"]) == {batch}


def test_fractions_are_no_counts(loaded, sampler, real):
    cells = real.copy()
    cells.X = cells.X * 0.5
    with pytest.raises(InputError, match="fractional"):
        loaded.impute(cells, sampler=sampler)


STEPS = ["--sampler.schedule.steps", "2", "--sampler.cells-per-device", "8"]


def test_the_commands_do_as_python_does(runs, loaded, sampler, real, targets, tmp_path, capsys):
    partly = real[:, 10:].copy()
    partly.var_names = [*partly.var_names[:-1], "STRANGE"]
    partly.obs = partly.obs.drop(columns="cell_line")
    partly.write_h5ad(tmp_path / "cells.h5ad")
    cells = ["--cells", str(tmp_path / "cells.h5ad"), "--condition.cell_line", "line_A", *STEPS]
    out = tmp_path / "out.h5ad"
    assert run(["impute", "tiny", "--runs", str(runs), *cells, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "11 of the panel missing; dropped 1 that the panel lacks (STRANGE)" in said
    expected = loaded.impute(partly, conditions={"cell_line": "line_A"}, sampler=sampler)
    np.testing.assert_array_equal(dense(anndata.read_h5ad(out)), dense(expected))

    more = ["--perturbation", targets[1], "--keep-share", "0.3", "--out", str(tmp_path / "other.zarr")]
    assert run(["counterfactual", "tiny", "--runs", str(runs), *cells, *more]) == 0
    other = anndata.read_zarr(tmp_path / "other.zarr")
    expected = loaded.counterfactual(
        partly, targets[1], keep_share=0.3, conditions={"cell_line": "line_A"}, sampler=sampler
    )
    np.testing.assert_array_equal(dense(other), dense(expected))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["counterfactual", "--perturbation", "x"], "say what of a cell stays"),
        (["impute", "--share", "2"], "0..1"),
        (["impute", "--cells", "nowhere.h5ad"], "does not exist"),
        (["impute", "--hide", "nowhere.txt"], "cannot be read as a list of genes"),
        (["impute", "--condition.dose", "1"], "no condition field 'dose'"),
    ],
)
def test_bad_requests_leave_nothing(runs, screen_file, tmp_path, arguments, message, capsys):
    name, *rest = arguments
    given = ["--cells", str(screen_file), "--out", str(tmp_path / "out.h5ad")]
    assert run([name, "tiny", "--runs", str(runs), *given, *rest]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []
