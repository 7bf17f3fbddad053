"""Who finds a lock held is told by whom; a lock whose holder was killed is free."""

import os
import socket
import subprocess
import sys

import pytest

from data_pipelines.errors import Interrupted
from data_pipelines.lock_owner import LockOwner, refused
from data_pipelines.locks import held

HOLDS = """
import pathlib, sys, time
from data_pipelines.locks import held
with held(pathlib.Path(sys.argv[1]), "held"):
    print("holds", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_owner_and_age(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(lock), "some-option"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    where = rf"the run is busy\. It is held for \d+ s by process {holder.pid} of {socket.gethostname()} \(.*some-option"
    with pytest.raises(Interrupted, match=where), held(lock, "the run is busy."):
        pass
    holder.kill()
    holder.wait()
    with held(lock, "the run is busy."):
        assert f'"process": {os.getpid()}' in lock.read_text()


def test_a_lock_that_tells_nothing_is_refused_all_the_same():
    assert refused("busy.", b"") == refused("busy.", b"\xff") == refused("busy.", b"[1]") == "busy."
    assert refused("busy.", LockOwner(host="a", process=1, command="c", since=0.0).to_bytes()).startswith(
        "busy. It is held for 2"
    )
