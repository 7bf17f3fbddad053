"""A registry on a disk that is full: one line, and nothing half-made."""

import os
import resource
import subprocess
import sys

import pytest

from experiments.registry.recorder import Recorder
from tests.experiments.registry.test_recorder import recorded


def rebuilt(root, size: int | None) -> subprocess.CompletedProcess:
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))) if size is not None else None
    command = [sys.executable, "-m", "experiments", "runs", "--rebuild", "--runs", str(root)]
    return subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, env=os.environ)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 4096])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(size, folder, root):
    done = rebuilt(root, size)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [line[:13] for line in done.stderr.splitlines()] == ["lingshu runs:"], done.stderr
    assert not [path.name for path in root.glob(".*.partial*")]
    assert rebuilt(root, None).returncode == 0
    assert recorded(root / "registry.db") == [("one", "FINISHED")]


@pytest.mark.slow
def test_a_job_beside_a_full_disk_is_told_in_one_line(folder, root, capfd, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with Recorder(folder, patience=200) as recorder:
            recorder.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: the registry") and "cannot be written" in line
