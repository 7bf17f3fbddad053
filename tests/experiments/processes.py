"""Training processes as they are on a pod: started, killed and started again."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def start(arguments, *, devices: int = 1, **environment: str) -> subprocess.Popen:
    """`lingshu ARGUMENTS` with so many virtual devices; stderr joins stdout."""
    flags = re.sub("device_count=[0-9]+", f"device_count={devices}", os.environ["XLA_FLAGS"])
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_several(arguments, processes: int, *, devices: int = 8, **environment: str) -> list[subprocess.Popen]:
    """The processes of one run, which share so many devices."""
    if processes == 1:
        return [start(arguments, devices=devices, **environment)]
    shared = f"--distributed.coordinator localhost:{free_port()} --distributed.processes {processes}".split()
    shared += ["--distributed.heartbeat-seconds", "10", "--distributed.start-seconds", "30"]
    return [
        start([*arguments, *shared, "--distributed.process", str(process)], devices=devices // processes, **environment)
        for process in range(processes)
    ]


def end(processes, *, seconds: float = 280) -> list[tuple[int, str]]:
    """Exit status and output of every process, all of which end by themselves."""
    limit = time.monotonic() + seconds
    try:
        said = [process.communicate(timeout=max(1.0, limit - time.monotonic()))[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]
