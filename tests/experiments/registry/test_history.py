"""What the table of runs reads: little, and nothing that takes seconds to import."""

import pathlib
import subprocess
import sys

import pytest

from experiments.registry.history import read_progress
from experiments.runs import RunFolder
from tests.experiments.registry.folders import line, write_lines

ROOT = pathlib.Path(__file__).parent.parent.parent.parent


@pytest.mark.parametrize("every", [3, 400, 5000])
def test_the_end_of_a_long_file_tells_as_much_as_all_of_it(tmp_path, every):
    lines = [
        line(step, loss=1.0, **({"val_nats": float(step)} if step % every == 0 else {})) for step in range(1, 2000)
    ]
    write_lines(tmp_path, *lines)
    found = read_progress(RunFolder(tmp_path))
    assert found.step == 1999 and found.val_nats == (1999 // every * every or None)


def test_a_line_that_is_cut_short_is_left_out(tmp_path):
    write_lines(tmp_path, line(1, val_nats=9.0), line(2, loss=1.0))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert read_progress(RunFolder(tmp_path)).step == 2
    (tmp_path / "metrics.jsonl").unlink()
    assert read_progress(RunFolder(tmp_path)).step == 0


def test_neither_the_table_nor_a_job_imports_mlflow_or_the_table_jax(folder):
    code = (
        "import sys; from experiments.__main__ import run\n"
        f"assert run(['runs', '--runs', {str(folder.root)!r}]) == 0 and 'jax' not in sys.modules\n"
        "import experiments.train, experiments.commands.recording, experiments.commands.whole_evaluation\n"
        "assert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
