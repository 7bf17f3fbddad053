"""The SLURM script: `srun` starts one process per GPU; the job is queued again when all of them may go on.

`srun` returns the highest status of its tasks. So each task raises 1 and 2 (a bug; a person has to decide) above all
others: they are not hidden by the 75 (start me again) with which the other tasks end, nor is 75 taken for them.
"""

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
task='trap : TERM; "$@"; status=$?; case $status in 1|2) exit $((200 + status));; esac; exit $status'
status=0
srun{cpus} --kill-on-bad-exit=0 --wait={grace} bash -c "$task" task {command} || status=$?

again=no
case "$status" in
  {again}|137|143)  # stopped by the time limit, or killed with a task or a machine; not for ever where it ends early
    if [ "$SECONDS" -ge {half} ] || [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then again=yes; fi ;;
  201|202) status=$((status - 200)) ;;
esac
if [ "$again" = yes ]; then
  echo "ended with $status, to be started again: queued again"
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
        "cpus-per-task": config.cpus,
        "mem": config.memory,
        "time": config.time,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "output": "%x-%j.log",
        "open-mode": "append",
        "signal": f"TERM@{config.grace_seconds}",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in directives.items() if value is not None]
    lines += [f"#SBATCH --{option}" for option in config.options.split()]
    return _SCRIPT.format(
        directives="\n".join([*lines, "#SBATCH --requeue"]),
        cpus=f" --cpus-per-task={config.cpus}" if config.cpus else "",  # srun does not take it from sbatch
        half=config.seconds // 2,
        setup=f"{config.setup.strip()}\n" if config.setup.strip() else "",
        command=shlex.join(command),
        grace=config.grace_seconds,
        again=START_AGAIN,
        restarts=config.max_restarts,
    )
