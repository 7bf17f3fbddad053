"""Labels that are scripts, formulas, paths and control characters, through every step from ingest to the page."""

import json
import pathlib

import anndata
import pytest

from data_pipelines import simulate_screen
from experiments.__main__ import run
from tests.experiments.conftest import COLUMNS, train_arguments

SCRIPT = "</script><script>alert(1)</script>"
NAMES = (
    SCRIPT, "=cmd|' /C calc'!A0", "../../etc/passwd", "a\"b'c", "line\nbreak", "tab\there", "\u202ertl",
    "\N{DNA DOUBLE HELIX}",
    "-2+3", "{{ 7 * 7 }}", "$x_1$", "%s",
)  # fmt: skip


@pytest.mark.slow
def test_names_are_shown_and_never_run(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "deep" / "er" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    screen: anndata.AnnData = simulate_screen(
        genes=40, contexts=2, perturbations=12, cells=30, controls=60, median_library=300
    )
    targets = [label for label in screen.obs["target_gene"].cat.categories if label != "non-targeting"]
    renamed = dict(zip(targets, NAMES, strict=True))
    screen.obs["target_gene"] = screen.obs["target_gene"].astype(str).replace(renamed).astype("category")
    contexts = {"line_A": "<img src=x onerror=alert(2)>", "line_B": "../up"}
    screen.obs["cell_line"] = screen.obs["cell_line"].astype(str).replace(contexts).astype("category")
    del screen.uns["planted_truth"]
    screen.write_h5ad("screen.h5ad")
    store, runs = pathlib.Path("screen.store"), pathlib.Path("runs")
    short = "--training.steps 4 --training.log-every 2 --training.evaluate-every 4 --training.save-every 4".split()
    assert run(["ingest", "screen.h5ad", "--out", str(store), *COLUMNS]) == 0
    assert run(train_arguments(store, runs, "--run", "odd", *short)) == 0
    assert run(["sample", "odd", "--runs", str(runs), "--split", "test"]) == 0
    assert run(["evaluate", "odd", "--runs", str(runs), "--bound-cells", "8", "--draws", "2"]) == 0
    assert run(["report", "odd", "--runs", str(runs), "--out", "page.html"]) == 0
    scores = ["score", "odd", "--runs", str(runs), "--cells", "screen.h5ad", "--draws", "2", "--out", "scores.csv"]
    assert run([*scores, "--by", "target_gene"]) == 0
    capsys.readouterr()

    page = pathlib.Path("page.html").read_text()
    assert page.count("<script>") == 1 and "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    assert json.loads(pathlib.Path("page.html.json").read_text())["evaluations"]
    table = pathlib.Path("scores.csv").read_text()
    assert not any(cell.startswith(("=", "@", "\t")) for line in table.splitlines() for cell in line.split(","))
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}  # no name has left the folder
    assert {path.name for path in folder.iterdir()} == {
        "screen.h5ad", "screen.store", "runs", "page.html", "page.html.json", "scores.csv",
    }  # fmt: skip
