"""The SLURM script: `srun` starts one process per GPU; status 75 (saved, start me again) queues the job again."""

import shlex
from collections.abc import Sequence

from experiments.launch.config import SlurmConfig

_SCRIPT = """\
#!/usr/bin/env bash
{directives}

# jax.distributed finds the other processes by SLURM's environment.
set -e
{setup}
# SIGTERM is for the processes of srun, which save and exit with {again}; this shell waits for them.
trap ':' TERM
status=0
srun --kill-on-bad-exit=0 --wait={grace} {command} || status=$?

if [ "$status" -eq {again} ]; then
  echo "stopped early and saved: queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
START_AGAIN = 75


def render(config: SlurmConfig, command: Sequence[str]) -> str:
    """The script that runs a `lingshu train` command."""
    directives = {
        "job-name": config.name,
        "nodes": config.nodes,
        "ntasks-per-node": config.devices,
        "gpus-per-node": config.devices,
        "time": config.time,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "output": "%x-%j.log",
        "open-mode": "append",
        "signal": f"TERM@{config.grace_seconds}",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in directives.items() if value is not None]
    return _SCRIPT.format(
        directives="\n".join([*lines, "#SBATCH --requeue"]),
        setup=f"{config.setup.strip()}\n" if config.setup.strip() else "",
        command=shlex.join(command),
        grace=config.grace_seconds,
        again=START_AGAIN,
    )
