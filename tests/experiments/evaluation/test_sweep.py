"""A sweep: every sampler once, rows that are kept, and a page that shows them."""

import json

import numpy as np
import pytest

from experiments.__main__ import run
from experiments.evaluation.sweep import Grid
from experiments.evaluation.sweep_rows import Sweep
from lingshu_jax.diffusion import ControlGuidance, CosineSchedule, GeometricSchedule, NoGuidance, SamplerConfig


@pytest.fixture
def own_runs(runs, tmp_path):
    """A folder of runs of this test's own: the trained one by a link, with no sweep."""
    trained = next(runs.glob("*/tiny"))
    folder = tmp_path / "runs" / trained.parent.name / "tiny"
    folder.mkdir(parents=True)
    for entry in trained.iterdir():
        if entry.name not in ("sweeps", "lock"):
            (folder / entry.name).symlink_to(entry)
    return tmp_path / "runs"


def sweep(runs, *more: str) -> int:
    return run(["sweep", "tiny", "--runs", str(runs), "--split", "test", "--n", "12", "--most-cells", "96", *more])


def rows(runs) -> list[dict]:
    (file,) = runs.glob("*/tiny/sweeps/*.json")
    return json.loads(file.read_text())["rows"]


def test_every_sampler_is_drawn_once_and_stands_beside_the_real_cells(own_runs, capsys):
    assert sweep(own_runs, "--schedules", "geometric", "--steps", "2") == 0
    first = rows(own_runs)
    assert sweep(own_runs, "--schedules", "cosine,geometric", "--steps", "2", "--scales", "0,1") == 0
    said = capsys.readouterr().out
    assert "0 of them are there already" in said and "1 of them are there already" in said
    found = rows(own_runs)
    assert found[0] == first[0] and len(found) == 4
    assert sweep(own_runs, "--schedules", "geometric", "--steps", "2") == 0
    assert rows(own_runs) == found and "real vs real" in capsys.readouterr().out
    (file,) = own_runs.glob("*/tiny/sweeps/*.json")
    kept = Sweep.load(file)
    assert [row.name for row in kept.reference] == ["real", "real vs real"]
    for row in kept.rows:
        assert np.isfinite([row.values[key] for key in ("library_log_sd", "zero_median", "share_error", "mmd")]).all()
    assert run(["report", "tiny", "--runs", str(own_runs), "--out", str(own_runs / "page.html")]) == 0
    page = (own_runs / "page.html").read_text()
    assert "Samplers compared on test" in page and "cosine" in page
    file.write_text(file.read_text()[:100])
    assert sweep(own_runs, "--schedules", "cosine", "--steps", "2") == 2
    assert f"{file} is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--schedules", "sine"), "--schedules 'sine' is none of geometric, cosine, linear"),
        (("--steps", "0"), "steps are >= 1"),
        (("--steps", "two"), "--steps takes whole numbers"),
        (("--scales", "nan"), "--scales must lie in"),
        (("--scales", ""), "at least one entry each"),
        (("--most-cells", "1"), "--most-cells must be >= 20"),
    ],
)
def test_impossible_sweeps_are_refused_in_one_line(own_runs, options, said, capsys):
    assert sweep(own_runs, *options) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not list(own_runs.glob("*/tiny/sweeps"))


def test_a_grid_keeps_what_it_does_not_change():
    base = SamplerConfig(
        schedule=GeometricSchedule(first_share=0.01), guidance=ControlGuidance(skip_steps=2), top_p=0.9
    )
    samplers = dict(enumerate(Grid(schedules=("geometric", "cosine"), steps=(4,), scales=(0.0, 2.0)).samplers(base)))
    assert samplers[0][1].schedule == GeometricSchedule(steps=4, first_share=0.01)
    assert samplers[0][1].guidance == NoGuidance() and samplers[0][1].top_p == 0.9
    assert samplers[3] == (
        "cosine",
        SamplerConfig(schedule=CosineSchedule(steps=4), guidance=ControlGuidance(scale=2.0, skip_steps=2), top_p=0.9),
    )
