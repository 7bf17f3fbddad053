"""`lingshu ablations`: what cannot be done is told in a line, before anything is trained."""

import pytest

from experiments.__main__ import run


@pytest.mark.parametrize(
    "options, said",
    [
        (["--only", "siez"], "no study 'siez' (nearest: size)"),
        (["--data", "nowhere"], "nowhere is no folder. Pass --data FOLDER"),
        (["--seeds", "0"], "--seeds must be >= 1"),
        (["--training.stepz", "3"], "--training.stepz"),
        (["--data", "."], "has none of the files: pbmc_ifnb_two_donors.h5ad"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["ablations", *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_tables_alone_leave_a_page_without_runs_as_it_is(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("prose\n")
    assert run(["ablations", "--tables", "--runs", str(tmp_path / "runs"), "--out", str(page)]) == 0
    assert page.read_text() == "prose\n" and "left as it is" in capsys.readouterr().out
