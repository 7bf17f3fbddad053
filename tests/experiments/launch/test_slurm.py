import os
import pathlib
import shlex
import subprocess

import pytest

from experiments.__main__ import run

TRAIN = ["paper-s8", "--store", "gs://bucket/cells.store"]
STUBS = {
    "srun": '#!/bin/sh\nprintf "%s\\n" "$@" > srun.txt\nexit "$STATUS"\n',
    "scontrol": '#!/bin/sh\necho "$@" > scontrol.txt\n',
}


def script(folder: pathlib.Path, *arguments: str) -> pathlib.Path:
    out = folder / "job.sbatch"
    assert run(["launch", "slurm", *TRAIN, "--launch.out", str(out), *arguments]) == 0
    return out


def start(path: pathlib.Path, status: int) -> subprocess.CompletedProcess:
    """Run the script as SLURM would, with stand-ins for its commands."""
    for name, text in STUBS.items():
        stub = path.parent / name
        stub.write_text(text)
        stub.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{path.parent}:{os.environ['PATH']}",
        "STATUS": str(status),
        "SLURM_JOB_ID": "17",
    }
    return subprocess.run(["bash", str(path)], cwd=path.parent, env=environment, capture_output=True, text=True)


HOSTILE = ["--run", "o'hara \"; touch pwned; $(touch pwned)"]


@pytest.mark.parametrize(
    "more", [[], ["--launch.setup", "export A=1\nexport B=2"], HOSTILE], ids=["", "setup", "quotes"]
)
def test_it_is_a_script(tmp_path, more):
    path = script(tmp_path, *more)
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_directives_come_from_the_settings(tmp_path, capsys):
    path = script(tmp_path, "--launch.nodes", "4", "--launch.devices", "2", "--launch.partition", "gpu")
    directives = [line for line in path.read_text().splitlines() if line.startswith("#SBATCH")]
    for wanted in ("nodes=4", "ntasks-per-node=2", "gpus-per-node=2", "partition=gpu", "signal=TERM@300", "requeue"):
        assert f"#SBATCH --{wanted}" in directives
    assert not any("account" in line for line in directives)
    assert capsys.readouterr().out.splitlines()[-1] == f"next: sbatch {path}"


@pytest.mark.parametrize(("status", "queued_again"), [(75, True), (0, False), (2, False), (1, False)])
def test_only_status_75_queues_the_job_again(tmp_path, status, queued_again):
    done = start(script(tmp_path), status)
    assert done.returncode == status
    assert (tmp_path / "scontrol.txt").exists() == queued_again
    if queued_again:
        assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"


def test_arguments_arrive_as_they_were_given(tmp_path):
    path = script(tmp_path, *HOSTILE)
    assert start(path, 0).returncode == 0
    assert (tmp_path / "srun.txt").read_text().splitlines()[-7:] == ["lingshu", "train", *TRAIN, *HOSTILE]
    assert not (tmp_path / "pwned").exists()


def test_a_setup_that_fails_starts_nothing(tmp_path):
    assert start(script(tmp_path, "--launch.setup", "false"), 0).returncode != 0
    assert not (tmp_path / "srun.txt").exists()


REFUSED = {
    "a cluster that is not known": ["launch", "slrum", *TRAIN],
    "no store": ["launch", "slurm", "paper-s8"],
    "an unknown experiment": ["launch", "slurm", "papers8", "--store", "x"],
    "an unknown setting": ["launch", "slurm", *TRAIN, "--training.stps", "3"],
    "an unknown launch setting": ["launch", "slurm", *TRAIN, "--launch.node", "3"],
    "a name that would be a directive": ["launch", "slurm", *TRAIN, "--launch.name", "a\n#SBATCH --x"],
    "a time that is none": ["launch", "slurm", *TRAIN, "--launch.time", "soon"],
    "no nodes": ["launch", "slurm", *TRAIN, "--launch.nodes", "0"],
    "a dry run": ["launch", "slurm", *TRAIN, "--dry-run"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_requests_are_one_line_and_write_nothing(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(REFUSED[what]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir()), shlex.join(REFUSED[what])
