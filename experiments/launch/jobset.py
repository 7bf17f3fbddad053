"""The GKE JobSet: one pod per machine. Status 75 makes a pod again, 2 ends the job, any other restarts all."""

from collections.abc import Sequence
from typing import Any

import yaml

from data_pipelines.errors import InputError
from experiments.accelerators import chips_of
from experiments.launch.config import JobSetConfig

PORT = 8476
START_AGAIN, BAD_INPUT = 75, 2
CHIPS_PER_MACHINE = 4
TPU_SLICES = {"v5e": "tpu-v5-lite-podslice", "v5p": "tpu-v5p-slice", "v6e": "tpu-v6e-slice"}
"""Chip -> GKE's name of its node pools."""
FLAT_SLICES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
"""Of v5e and v6e, in machines of 4 chips; those of v5p are AxBxC."""
COORDINATOR, PROCESSES, PROCESS = "LINGSHU_COORDINATOR", "LINGSHU_PROCESSES", "LINGSHU_PROCESS"
"""Environment of the distributed start."""


def render(config: JobSetConfig, command: Sequence[str]) -> str:
    """The manifest that runs a `lingshu train` command.

    Raises:
        InputError: the topology is none that GKE has.
    """
    return yaml.safe_dump(_manifest(config, command), sort_keys=False, width=120)


def _manifest(config: JobSetConfig, command: Sequence[str]) -> dict[str, Any]:
    machines, limits, selector = _machines(config)
    metadata: dict[str, Any] = {"name": config.name, "namespace": config.namespace}
    if config.topology is not None:
        # All pods of the job on one slice, and no other job's.
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    job = {
        "parallelism": machines,
        "completions": machines,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                _on_status("Ignore", START_AGAIN),
                _on_status("FailJob", BAD_INPUT),
            ]
        },
        "template": {"spec": _pod(config, command, machines, limits, selector)},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True},
            "failurePolicy": {
                "maxRestarts": config.max_restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _pod(
    config: JobSetConfig, command: Sequence[str], machines: int, limits: dict[str, int], selector: dict[str, str]
) -> dict[str, Any]:
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    container = {
        "name": "train",
        "image": config.image,
        # Kubernetes replaces $(NAME) in arguments; $$( stands for itself.
        "command": [word.replace("$(", "$$(") for word in command],
        "env": [
            {"name": COORDINATOR, "value": f"{config.name}-workers-0-0.{config.name}:{PORT}"},
            {"name": PROCESSES, "value": str(machines)},
            {"name": PROCESS, "valueFrom": index},
        ],
        "ports": [{"containerPort": PORT}],
        "resources": {"limits": dict(limits)},
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace_seconds,
        "containers": [container],
        "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
    }
    if selector:
        pod["nodeSelector"] = selector
    if config.service_account is not None:
        pod["serviceAccountName"] = config.service_account
    return pod


def _on_status(action: str, status: int) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"containerName": "train", "operator": "In", "values": [status]}}


def _machines(config: JobSetConfig) -> tuple[int, dict[str, int], dict[str, str]]:
    """How many, what each asks for, and how GKE finds them."""
    if config.topology is None:
        return config.machines, {"nvidia.com/gpu": config.gpus}, {}
    machines, chip = slice_of(config.topology)
    selector = {
        "cloud.google.com/gke-tpu-accelerator": TPU_SLICES[chip],
        "cloud.google.com/gke-tpu-topology": config.topology.partition(":")[2],
    }
    return machines, {"google.com/tpu": CHIPS_PER_MACHINE}, selector


def slice_of(topology: str) -> tuple[int, str]:
    """Machines of a TPU slice, and its chip.

    Raises:
        InputError: GKE has no such slice.
    """
    chip, chips = chips_of(topology)
    if chip.name not in TPU_SLICES:
        raise InputError(f"--launch.topology {topology} is no TPU slice. Leave it out, and pass --launch.nodes.")
    sizes = topology.partition(":")[2]
    if len(sizes.split("x")) != chip.torus_axes or (chip.torus_axes == 2 and sizes not in FLAT_SLICES):
        some = f"one of {', '.join(FLAT_SLICES)}" if chip.torus_axes == 2 else "AxBxC, as 2x2x1 or 4x4x4"
        raise InputError(f"--launch.topology {topology}: GKE has no such slice. Slices of {chip.name} are {some}.")
    if chips % CHIPS_PER_MACHINE:
        raise InputError(
            f"--launch.topology {topology} has {chips} chips; machines have {CHIPS_PER_MACHINE}. "
            f"Choose a multiple of {CHIPS_PER_MACHINE}."
        )
    return chips // CHIPS_PER_MACHINE, chip.name
