"""The report: one page that stands alone, whatever the run has or lacks."""

import dataclasses
import json
import re
import shutil

import markupsafe
import numpy as np
import pytest
import yaml

from data_pipelines.errors import InputError
from experiments.evaluation import extras
from experiments.evaluation.evaluate import Bounds, evaluate
from experiments.evaluation.limits import limits
from experiments.evaluation.report import numbers_of, write_report
from experiments.evaluation.results import ChallengeRow, ChallengeTable, Colouring, Estimate, Evaluation

NASTY = "<script>alert('x')</script>"
CHALLENGE = ChallengeTable(
    preset="v1",
    rows=(
        ChallengeRow(
            name="model",
            metrics={"DES": Estimate(value=0.5, low=0.4, high=0.6), "MAE": Estimate(value=0.1)},
            average=Estimate(value=0.321, low=0.3, high=0.4),
            cells=417,
            de_cells=61,
            conditions=12,
        ),
        ChallengeRow(name="mean_effect", metrics={"MAE": Estimate(value=0.2)}, conditions=12),
    ),
    columns=("DES", "MAE"),
    de_columns=("DES",),
    lower=("MAE",),
    averaged=("DES", "MAE"),
    baseline="mean_effect (sampled)",
    real_cells=61,
    versions={"cell-eval2": "9.9.9", "pdex": "8.8.8"},
)


def account(step: int) -> dict:
    """Where the time went up to a step."""
    return {"useful_seconds": 9.0 * step, "lost_seconds": {"start": 1.0 * step}, "time": step}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, screen):
    """A run with one perturbation evaluation in which a context is named like a script."""
    folder = tmp_path_factory.mktemp("runs") / "demo" / "0123456789"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": NASTY}))
    lines = [{"step": s, "loss": 2 - s / 100, "val_nats": 400 - s} | account(s) for s in range(0, 50, 5)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 50, "lo')
    found = evaluate(
        store=screen.store,
        split=screen.split,
        statistics=screen.statistics,
        generated=screen.oracle,
        bounds=Bounds(rows=screen.split.test[:9], nats=np.full(9, 300.0), standard_errors=np.ones(9)),
        embedding=False,
    )
    rng = np.random.default_rng(0)
    coded = {"umap_real": rng.normal(size=(20, 2)), "umap_model": rng.normal(size=(20, 2))}
    codes = {"umap_code_real_0": np.arange(20) % 2, "umap_code_model_0": np.full(20, -1)}
    codes |= {f"umap_marker_{side}": rng.random((20, 1)) for side in ("real", "model")}
    found = dataclasses.replace(
        found,
        provenance={"step": 77},
        arrays=found.arrays | coded | codes,
        challenge=(CHALLENGE,),
        composition=dataclasses.replace(found.composition, labels=(NASTY, "$b$")),
        pictures=dataclasses.replace(
            found.pictures, umap=(Colouring(column="cell_line", labels=(NASTY, "b")),), umap_markers=(NASTY,)
        ),
    )
    found.save(folder / "evaluations" / "first")
    return folder


@pytest.fixture(scope="module")
def page(run_folder) -> str:
    return write_report(run_folder, [run_folder / "evaluations" / "first"], run_folder / "report.html").read_text()


def test_the_page_needs_nothing_from_outside(page) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "@import" not in page and "url(" not in page
    assert "<link" not in page


def test_labels_cannot_run_as_scripts(page) -> None:
    assert page.count("<script") == 1  # the page's own
    assert page.index("<script") > page.rindex("&lt;script&gt;")


def test_the_page_has_its_tables_and_pictures(page) -> None:
    for words in (
        "At a glance",
        "Held-out likelihood",
        "Perturbation effects",
        "Planted truth",
        "Distributions",
        "Cells and genes",
        "What the words mean",
        "perturbation_transfer",
        "real vs real",
        "nb_depth per label",
        "checkpoint step <b>77</b>",
        "prefers-color-scheme",
        "Real held-out cells",
        "Nats per cell by step",
        "Do predictions depend on the perturbation?",
        "Calibration of counts",
        "Mean count 1 to 10",
        "cell-eval v1",
        "0.321",
        ">417<",
        ">constant<",
        "Averaged: DES, MAE",
        "cell-eval2 9.9.9, pdex 8.8.8",
        "UMAP, by cell_line",
        "Marker genes on the same layout",
        "Volcanoes of the same conditions",
        "Where the time went",
        "Limits",
        "library_name: lingshu_jax",
    ):
        assert words in page, words
    assert page.count('src="data:image/') >= 12


def test_the_same_data_stand_beside_the_page_as_json(page, run_folder) -> None:
    numbers = json.loads(numbers_of(run_folder / "report.html").read_text())
    found = numbers["evaluations"]["first"]
    assert found["bound"][0]["nats"]["value"] == 300.0 and found["challenge"][0]["rows"][0]["average"]["value"] == 0.321
    assert numbers["metrics"][-1]["val_nats"] == 355
    assert found["limits"] == limits(Evaluation.load(run_folder / "evaluations" / "first")) != []
    for line in found["limits"]:
        assert str(markupsafe.escape(line)) in page, line
    (entry,) = yaml.safe_load(numbers["card"])["model-index"][0]["results"]
    assert {"type": "nats_per_cell", "value": 300.0} in entry["metrics"]


def test_a_run_without_evaluations_or_logs_has_a_report(tmp_path) -> None:
    text = write_report(tmp_path, [], tmp_path / "out" / "report.html").read_text()
    assert "No evaluation yet" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.html.json"]


def test_a_bare_evaluation_has_a_report(plain, tmp_path) -> None:
    found = evaluate(
        store=plain.store, split=plain.split, statistics=plain.statistics, generated=plain.oracle, embedding=False
    )
    found.save(tmp_path / "evaluations" / "bare")
    text = write_report(tmp_path, [tmp_path / "evaluations" / "bare"], tmp_path / "report.html").read_text()
    assert "Distributions" in text and "<h3>Perturbation effects" not in text and ">n/a<" not in text


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="no run folder"):
        write_report(tmp_path / "nowhere", [], tmp_path / "report.html")
    monkeypatch.setattr(extras.importlib, "import_module", _refuse)
    with pytest.raises(InputError, match=r"pip install 'lingshu-jax\[eval\]'"):
        write_report(tmp_path, [], tmp_path / "report.html")


def _refuse(name: str) -> None:
    raise ModuleNotFoundError(name=name)


@pytest.mark.slow
def test_the_umap_of_an_evaluation_has_every_cell_once(plain) -> None:
    found = evaluate(store=plain.store, split=plain.split, statistics=plain.statistics, generated=plain.oracle)
    assert found.arrays["umap_real"].shape == found.arrays["umap_model"].shape == (60, 2)
    assert np.isfinite(found.arrays["umap_real"]).all()


def test_a_damaged_evaluation_is_said_and_left_out(run_folder, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    with (copy / "metrics.jsonl").open("ab") as file:
        file.write(b"\n[1, 2]\n\xff\xfe\n")
    (good,) = (file.parent for file in copy.glob("evaluations/*/metrics.json"))
    bad = copy / "evaluations" / "bad"
    shutil.copytree(good, bad)
    (bad / "metrics.json").write_text("{")
    page = write_report(copy, [bad, good], tmp_path / "page.html")
    assert "bad/metrics.json is damaged" in capsys.readouterr().err
    assert f"Evaluation: {good.name}" in page.read_text() and "Evaluation: bad" not in page.read_text()
    with pytest.raises(InputError, match="is damaged"):
        write_report(copy, [bad], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
