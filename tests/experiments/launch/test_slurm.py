import os
import pathlib
import shlex
import subprocess

import pytest

from experiments.__main__ import run

TRAIN = ["paper-s8", "--store", "gs://bucket/cells.store"]
STUBS = {
    # One task per word of $STATUS; the highest status of all, as srun returns it.
    "srun": """#!/bin/bash
printf "%s\\n" "$@" > srun.txt
while [ "${1#--}" != "$1" ]; do shift; done
highest=0
for STATUS in $STATUS; do
  export STATUS
  "$@" || { found=$?; [ $found -gt $highest ] && highest=$found; }
done
exit $highest
""",
    "lingshu": '#!/bin/sh\n[ "$STATUS" -gt 128 ] && kill -$((STATUS - 128)) $$\nexit "$STATUS"\n',
    "scontrol": '#!/bin/sh\necho "$@" > scontrol.txt\n',
}


def script(folder: pathlib.Path, *arguments: str) -> pathlib.Path:
    out = folder / "job.sbatch"
    assert run(["launch", "slurm", *TRAIN, "--launch.out", str(out), *arguments]) == 0
    return out


def start(path: pathlib.Path, statuses: str, restarts: int = 0) -> subprocess.CompletedProcess:
    """Run the script as SLURM would, with stand-ins for its commands."""
    for name, text in STUBS.items():
        stub = path.parent / name
        stub.write_text(text)
        stub.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{path.parent}:{os.environ['PATH']}",
        "STATUS": statuses,
        "SLURM_RESTART_COUNT": str(restarts),
        "SLURM_JOB_ID": "17",
    }
    return subprocess.run(["bash", str(path)], cwd=path.parent, env=environment, capture_output=True, text=True)


HOSTILE = ["--data.split", "o'hara \"; touch pwned; $(touch pwned)"]


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


ENDS = [
    ("75", 75, True),
    ("0 0", 0, False),
    ("75 75 75", 75, True),
    ("137 75", 137, True),  # a task was killed: the others ask to be started again
    ("75 143", 143, True),
    ("75 2", 2, False),  # a person has to decide; the others have lost that process
    ("1 75", 1, False),
    ("2 137", 2, False),
    ("139 75", 139, False),
]


@pytest.mark.parametrize(("statuses", "status", "queued_again"), ENDS)
def test_the_job_is_queued_again_when_every_task_may_go_on(tmp_path, statuses, status, queued_again):
    done = start(script(tmp_path), statuses)
    assert done.returncode == status
    assert (tmp_path / "scontrol.txt").exists() == queued_again
    if queued_again:
        assert (tmp_path / "scontrol.txt").read_text() == "requeue 17\n"


@pytest.mark.parametrize("statuses", ["137 75", "75"])
def test_a_job_that_ends_early_again_and_again_is_not_queued_for_ever(tmp_path, statuses):
    path = script(tmp_path, "--launch.max-restarts", "3")
    start(path, statuses, restarts=2)
    assert (tmp_path / "scontrol.txt").exists()
    (tmp_path / "scontrol.txt").unlink()
    start(path, statuses, restarts=3)
    assert not (tmp_path / "scontrol.txt").exists()


def test_a_job_that_has_used_its_time_is_queued_however_often_it_was(tmp_path):
    path = script(tmp_path, "--launch.max-restarts", "3", "--launch.time", "2:00:00")
    text = path.read_text()
    assert '"$SECONDS" -ge 3600' in text
    path.write_text(text.replace("status=0\n", "SECONDS=3601 status=0\n", 1))  # bash counts on from there
    start(path, "75", restarts=99)
    assert (tmp_path / "scontrol.txt").exists()


def test_cpus_memory_and_other_options_are_asked_for(tmp_path):
    more = ["--launch.cpus", "12", "--launch.memory", "200G", "--launch.options", "constraint=h100 exclusive"]
    text = script(tmp_path, *more).read_text()
    for line in ("--cpus-per-task=12", "--mem=200G", "--constraint=h100", "--exclusive"):
        assert f"#SBATCH {line}\n" in text
    assert "srun --cpus-per-task=12 " in text


def test_arguments_arrive_as_they_were_given(tmp_path):
    path = script(tmp_path, *HOSTILE)
    assert start(path, "0").returncode == 0
    assert (tmp_path / "srun.txt").read_text().splitlines()[-7:] == ["lingshu", "train", *TRAIN, *HOSTILE]
    assert not (tmp_path / "pwned").exists()


def test_a_setup_that_fails_starts_nothing(tmp_path):
    assert start(script(tmp_path, "--launch.setup", "false"), "0").returncode != 0
    assert not (tmp_path / "srun.txt").exists()


REFUSED = {
    "no time to compile": ["launch", "slurm", *TRAIN, "--launch.time", "00:10:00"],
    "more processes than cells": ["launch", "slurm", *TRAIN, "--launch.nodes", "64"],
    "no size": ["launch", "slurm", *TRAIN, "--launch.memory", "much"],
    "an option that is none": ["launch", "slurm", *TRAIN, "--launch.options", "--wrap=rm"],
    "a cluster that is not known": ["launch", "slrum", *TRAIN],
    "no store": ["launch", "slurm", "paper-s8"],
    "an unknown experiment": ["launch", "slurm", "papers8", "--store", "x"],
    "an unknown setting": ["launch", "slurm", *TRAIN, "--training.stps", "3"],
    "an unknown launch setting": ["launch", "slurm", *TRAIN, "--launch.node", "3"],
    "a name that would be a directive": ["launch", "slurm", *TRAIN, "--launch.name", "a\n#SBATCH --x"],
    "a time that is none": ["launch", "slurm", *TRAIN, "--launch.time", "soon"],
    "no nodes": ["launch", "slurm", *TRAIN, "--launch.nodes", "0"],
    "a dry run": ["launch", "slurm", *TRAIN, "--dry-run"],
    "a run that begins again at every restart": ["launch", "slurm", *TRAIN, "--new"],
    "a name that no run can have": ["launch", "slurm", *TRAIN, "--run", "my run"],
    "steps that are none": ["launch", "slurm", *TRAIN, "--profile", "9:3"],
    "devices to plan for": ["launch", "slurm", *TRAIN, "--devices", "8"],
    "one place for all processes": ["launch", "slurm", *TRAIN, "--distributed.process", "0"],
    "a mesh that is none there": ["launch", "slurm", *TRAIN, "--launch.nodes", "2", "--mesh.data", "64"],
    "a batch that does not divide": ["launch", "slurm", *TRAIN, "--launch.nodes", "3"],
    "no time to train": ["launch", "slurm", *TRAIN, "--launch.time", "00:05:00"],
    "no folder for the script": ["launch", "slurm", *TRAIN, "--launch.out", "there/job.sbatch"],
    "a folder for the script": ["launch", "slurm", *TRAIN, "--launch.out", "."],
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_requests_are_one_line_and_write_nothing(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(REFUSED[what]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir()), shlex.join(REFUSED[what])
