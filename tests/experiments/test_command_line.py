"""Bad usage and bad input: exit status 2, one line that says what, where and what to do, no traceback, nothing left."""

import pathlib
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from experiments.__main__ import COMMANDS, run
from tests.experiments.conftest import COLUMNS

ROOT = pathlib.Path(__file__).parent.parent.parent


def write(path: pathlib.Path, counts, genes="abc", **obs) -> str:
    obs = obs or {"target": ["ctrl", "KO", "ctrl"]}
    frame = pd.DataFrame(obs, index=[f"c{i}" for i in range(len(counts))])
    cells = anndata.AnnData(scipy.sparse.csr_matrix(np.asarray(counts)), obs=frame, var=pd.DataFrame(index=list(genes)))
    cells.write_h5ad(path)
    return str(path)


COUNTS = [[1, 0, 2], [0, 3, 1], [4, 0, 0]]


def bad_inputs(folder: pathlib.Path) -> dict[str, tuple[list[str], str]]:
    good = write(folder / "good.h5ad", COUNTS)
    text = folder / "text.h5ad"
    text.write_text("not an h5ad")
    logged = write(folder / "logged.h5ad", np.log1p(COUNTS))
    negative = write(folder / "negative.h5ad", [[1, -2, 0]] * 3)
    other = write(folder / "other.h5ad", COUNTS, genes="xyz")
    out = ["--out", str(folder / "store")]
    perturbed = ["--columns.perturbation", "target", "--columns.control"]
    return {
        "a file that is not h5ad": (["ingest", str(text), *out], "text.h5ad"),
        "a file that is not there": (["ingest", str(folder / "none.h5ad"), *out], "none.h5ad"),
        "log-normalised counts": (["ingest", logged, *out], "raw"),
        "negative counts": (["ingest", negative, *out], "negative"),
        "a missing column": (["ingest", good, *out, "--columns.context", "donor"], "target"),
        "a control label that does not occur": (["ingest", good, *out, *perturbed, "ctlr"], "ctrl"),
        "no gene in common": (["ingest", good, other, *out], "no gene"),
        "no file": (["ingest", *out], "h5ad"),
        "no output": (["ingest", good], "--out"),
        "an unknown experiment": (["train", "dmeo", "--store", "x"], "demo"),
        "an unknown option": (["train", "demo", "--model.widht", "8"], "--model.width"),
        "a value of the wrong type": (
            ["train", "demo", "--model.width", "wide"],
            "--model.width must be a whole number, got 'wide'",
        ),
        "an impossible setting": (["train", "demo", "--training.batch-size", "48"], "64"),
        "more steps than are counted": (
            ["train", "demo", "--training.steps", str(2**31)],
            "training.steps must be <= ",
        ),
        "a number that is none": (["train", "demo", "--optimizer.learning-rate", "nan"], "--optimizer.learning-rate"),
        "a negative seed": (["train", "demo", "--seed", "-1"], "--seed must lie in 0.."),
        "a pattern that matches nothing": (["ingest", str(folder / "none*.h5ad"), *out], "matches no file"),
        "a scheduler that is not there": (["ingest", good, *out, "--dask", "tcp://127.0.0.1:1"], "dask scheduler"),
        "a panel that is none": (["ingest", good, *out, "--genes.panel", "onion"], "--genes.panel onion"),
        "samples in a bucket": (["sample", "x", "--out", "gs://bucket/x.h5ad"], "not a gs:// URL"),
        "runs in no bucket": (["train", "demo", "--store", "x", "--runs", "gs://"], "gs:// names no bucket"),
        "runs elsewhere": (["train", "demo", "--store", "x", "--runs", "hdfs://x/runs"], "no place for runs"),
        "half of a pod": (["train", "demo", "--store", "x", "--distributed.processes", "0"], "distributed.processes"),
        "no store": (["train", "demo"], "--store"),
        "a store that is not there": (["train", "demo", "--store", str(folder / "none")], "lingshu ingest"),
        "an unknown command": (["trian"], "train"),
        "an unknown run": (["sample", "nope", "--split", "test", "--runs", str(folder)], "lingshu train"),
        "an option without a value": (["sample", "x", "--condition.a"], "needs a value"),
        "a report of nothing": (["report", "nope", "--runs", str(folder)], "lingshu train"),
    }


CASES = [
    "a file that is not h5ad", "a file that is not there", "log-normalised counts", "negative counts",
    "a missing column", "a control label that does not occur", "no gene in common", "no file", "no output",
    "an unknown experiment", "an unknown option", "a value of the wrong type", "an impossible setting", "no store",
    "a number that is none", "a negative seed", "a pattern that matches nothing",
    "a scheduler that is not there", "a panel that is none",
    "a store that is not there", "an unknown command", "an unknown run", "an option without a value",
    "a report of nothing",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_status_2(case, tmp_path, capsys):
    arguments, said = bad_inputs(tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1, printed
    assert printed.err.startswith(f"lingshu {arguments[0]}: ") and said in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_refusal_loads_no_jax(tmp_path):
    arguments, _ = bad_inputs(tmp_path)["a missing column"]
    code = f"import sys\nfrom experiments.__main__ import run\nassert run({arguments}) == 2\n"
    code += "assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        run([command, "--help"])
    assert end.value.code == 0
    assert f"lingshu {command}" in capsys.readouterr().out


def test_inspect_proposes_the_ingest_that_works(screen_file, tmp_path, capsys, monkeypatch):
    import shlex

    monkeypatch.chdir(tmp_path)
    assert run(["inspect", str(screen_file)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    command = shlex.split(last.removeprefix("next: lingshu "))
    assert command[-len(COLUMNS) :] == COLUMNS
    assert run(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: lingshu train perturb --store ")
