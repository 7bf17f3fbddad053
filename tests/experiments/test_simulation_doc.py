"""The example of docs/simulation.md runs, block after block, as in a notebook; its commands are known ones."""

import pathlib
import re
import shlex

import pytest

from experiments import load_run
from experiments.__main__ import run

DOCUMENT = (pathlib.Path(__file__).parent.parent.parent / "docs" / "simulation.md").read_text()


@pytest.fixture
def meant(runs):
    targets = load_run("tiny", runs=runs).plan.vocabulary.perturbation.labels
    return {"A549": "line_A", "STAT1": targets[0], "STAT2": targets[1], "latest": "tiny"}


@pytest.fixture
def place(runs, screen_file, tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(runs)
    (tmp_path / "cells.h5ad").symlink_to(screen_file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replaced(text, meant):
    for word, meaning in meant.items():
        text = text.replace(word, meaning)
    return text


def test_the_notebook_runs(meant, place):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(replaced(block, meant).replace("n=100", "n=12"), names)
    assert names["ranking"].index[0] == meant["STAT2"]
    rank = names["run"].plan.experiment.model.factors.rank
    assert names["coordinates"].shape == (8, rank) and names["expected"].n_obs == 8


def test_the_commands_run(meant, place):
    (place / "genes.txt").write_text("\n".join(load_run("tiny").plan.panel.genes[:5]))
    (place / "conditions.csv").write_text(f"cell_line,target_gene,n_cells\nline_A,{meant['STAT1']},3\n")
    small = place / "small.h5ad"
    import anndata

    anndata.read_h5ad(place / "cells.h5ad")[:8].copy().write_h5ad(small)
    lines = re.findall(r"^ {4}(lingshu .*)$", DOCUMENT, re.MULTILINE)
    commands = [shlex.split(replaced(line, meant), comments=True)[1:] for line in lines]
    assert {command[0] for command in commands} == {
        "sample", "sweep", "impute", "counterfactual", "score", "embed", "export"
    }  # fmt: skip
    for command in commands:
        if command[0] == "export":
            continue  # the gene lists are those of real challenges; see challenges/test_export.py
        changed = [{"RUN": "tiny", "400": "4", "cells.h5ad": str(small)}.get(word, word) for word in command]
        if command[0] == "sweep":
            changed = [
                {"geometric,cosine": "cosine", "3,8,32": "1", "0,1,2": "0,1"}.get(word, word) for word in changed
            ]
            changed += ["--most-cells", "40"]
        assert run(changed) == 0, command
