"""Every command of the README works: the `lingshu` lines are run on a tiny screen, the make lines exist."""

import pathlib
import re
import shlex
import subprocess

import pytest

from experiments.__main__ import run
from experiments.runs import find_run
from tests.experiments.conftest import TINY_MODEL

ROOT = pathlib.Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def indented_lines(first_word: str) -> list[list[str]]:
    joined = README.replace("\\\n", " ")
    return [
        shlex.split(line, comments=True) for line in re.findall(rf"^ {{4}}({first_word} .*)$", joined, re.MULTILINE)
    ]


@pytest.mark.parametrize("command", indented_lines("make"), ids=" ".join)
def test_make_lines_exist(command):
    done = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lingshu_lines_run(screen_file, store, runs, tmp_path, monkeypatch):
    from experiments import load_run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.h5ad").symlink_to(screen_file)
    target = load_run("tiny", runs=runs).plan.vocabulary.perturbation.labels[0]
    (tmp_path / "conditions.csv").write_text(f"cell_line,target_gene,n_cells\nline_A,{target},3\n")
    meant = {"RUN": "latest", "A549": "line_A", "STAT1": target, "400": "4"}
    short = "--training.steps 4 --training.log-every 2 --training.evaluate-every 4 --training.save-every 4".split()
    lines = indented_lines("lingshu")
    commands = {"inspect", "ingest", "train", "sample", "impute", "score", "evaluate", "report"}
    assert {line[1] for line in lines} == commands
    for line in lines:
        command = [meant.get(word, word) for word in line[1:]]
        if command[0] == "train":
            command += [*TINY_MODEL, *short]
        if command[:1] == ["sample"] and "--split" in command:
            command += ["--n", "30"]
        assert run(command) == 0, line
    assert (find_run("latest", tmp_path / "runs").path / "report.html").exists()


def test_the_python_example_runs(runs, monkeypatch, tmp_path):
    from experiments import load_run

    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    target = load_run("tiny", runs=runs).plan.vocabulary.perturbation.labels[0]
    for word, meaning in {"A549": "line_A", "STAT1": target, "400": "4"}.items():
        example = example.replace(word, meaning)
    (tmp_path / "runs").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    assert names["cells"].shape == (4, 60)
