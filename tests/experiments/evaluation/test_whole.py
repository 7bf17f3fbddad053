"""`lingshu evaluate --whole`: one job from a checkpoint to its report, which does nothing twice."""

import json
import pathlib
import shutil

import pytest

from data_pipelines.errors import InputError
from experiments.__main__ import run
from experiments.commands.evaluate import newest_samples
from tests.experiments.processes import end, start_several

FAST = "--n 12 --no-challenge --bound-cells 40 --draws 2".split()


@pytest.fixture
def root(runs, tmp_path) -> pathlib.Path:
    """RUNS with a copy of the trained run."""
    others = shutil.ignore_patterns("samples", "evaluations", "sweeps", "report.html")
    shutil.copytree(runs / "perturb" / "tiny", tmp_path / "perturb" / "tiny", ignore=others)
    return tmp_path


def whole(root: pathlib.Path, *more: str, reference: str = "tiny") -> int:
    return run(["evaluate", reference, "--whole", "--runs", str(root), *FAST, *more])


def evaluations(root: pathlib.Path) -> dict[str, dict]:
    files = (root / "perturb" / "tiny" / "evaluations").glob("*/metrics.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


@pytest.mark.slow
def test_what_is_done_for_a_checkpoint_split_sampler_and_seed_is_not_done_again(root, capsys):
    page = root / "page.html"
    assert whole(root, "--out", str(page)) == 0
    (first,) = evaluations(root)
    samples = root / "perturb" / "tiny" / "samples"
    assert "60 cells x 60 genes" in capsys.readouterr().out and page.exists()
    assert {file.name for file in samples.iterdir()} == {f"{first}.h5ad", f"{first}.json"}

    (samples / f"{first}.h5ad").unlink()
    page.unlink()
    assert whole(root, "--out", str(page)) == 0
    assert "holds this evaluation already" in capsys.readouterr().out and page.exists()
    assert not (samples / f"{first}.h5ad").exists()

    assert whole(root, "--seed", "1") == 0
    assert len(evaluations(root)) == 2 and "saved in" in capsys.readouterr().out
    second = next(name for name in evaluations(root) if name != first)
    again = ["evaluate", "tiny", "--samples", str(samples / f"{second}.h5ad"), "--runs", str(root)]
    assert run([*again, *FAST[2:], "--seed", "1"]) == 0
    assert "holds this evaluation already" in capsys.readouterr().out

    assert run(["runs", "alias", "early", "tiny", "--step", "6", "--runs", str(root)]) == 0
    assert whole(root, reference="early") == 0
    early = next(tree for name, tree in evaluations(root).items() if name.startswith("test-6-"))
    assert early["step"] == early["provenance"]["step"] == 6
    assert early["bound"][0]["nats"]["value"] != evaluations(root)[first]["bound"][0]["nats"]["value"]

    config = root / "perturb" / "tiny" / "config.json"  # the store is deleted
    config.write_text(json.dumps(json.loads(config.read_text()) | {"store": str(root / "gone.store")}))
    page.unlink()
    assert run(["report", "latest", "--runs", str(root), "--out", str(page)]) == 0
    assert first in page.read_text() and run(["runs", "--runs", str(root)]) == 0


@pytest.mark.slow
def test_several_processes_draw_and_one_evaluates(root):
    arguments = ["evaluate", "tiny", "--whole", "--runs", str(root), *FAST]
    (lead, said), (other, silent) = end(start_several(arguments, 2, devices=2))
    assert (lead, other) == (0, 0), said + silent
    assert "60 cells x 60 genes" in said and "report: " in said and "report: " not in silent
    assert len(evaluations(root)) == 1


@pytest.mark.parametrize(
    "options, said",
    [
        (["--out", "page.html"], "--out is for the whole job"),
        (["--n", "12"], "--n is for the whole job"),
        (["--sampler.temperature", "2"], "--sampler is for the whole job"),
        (["--whole", "--samples", "cells.h5ad"], "--whole draws the cells itself"),
        (["--whole", "--n", "many"], "--n must be a number"),
    ],
)
def test_options_that_say_nothing_are_refused(root, capsys, options, said):
    assert run(["evaluate", "tiny", "--runs", str(root), *options]) == 2
    assert said in capsys.readouterr().err


def test_samples_are_those_of_the_checkpoint_that_is_asked_for(root):
    samples = root / "samples"
    samples.mkdir()
    for name in ("test-6-aaaaaa.h5ad", "test-12-bbbbbb.h5ad"):
        (samples / name).touch()
    assert newest_samples(samples, "test", "tiny", 6).name == "test-6-aaaaaa.h5ad"
    with pytest.raises(InputError, match=r"of step 7\. Draw them: lingshu sample tiny --split test --step 7"):
        newest_samples(samples, "test", "tiny", 7)
