"""The command line itself: help, how fast it refuses, and commands that it proposes. See also `test_bad_inputs.py`."""

import pathlib
import subprocess
import sys

import pytest

from experiments.__main__ import COMMANDS, run
from tests.experiments.conftest import COLUMNS

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_a_refusal_loads_no_jax(screen_file, tmp_path):
    arguments = ["ingest", str(screen_file), "--out", str(tmp_path / "store"), "--columns.context", "donor"]
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
