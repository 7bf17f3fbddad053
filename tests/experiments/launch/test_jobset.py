import pytest
import yaml

from experiments.__main__ import run
from tests.experiments.launch.test_slurm import HOSTILE
from tests.experiments.launch.test_slurm import TRAIN as TRAIN_ANYWHERE

TRAIN = [*TRAIN_ANYWHERE, "--runs", "gs://bucket/runs"]
IMAGE = ["--launch.image", "registry.example/lingshu:1"]


def manifest(tmp_path, *arguments: str) -> dict:
    out = tmp_path / "job.yaml"
    assert run(["launch", "jobset", *TRAIN, *IMAGE, "--launch.out", str(out), *arguments]) == 0
    return yaml.safe_load(out.read_text())


def parts(document: dict) -> tuple[dict, dict, dict]:
    """Job spec, pod spec, container."""
    (workers,) = document["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, job["template"]["spec"], container


def check(document: dict) -> None:
    """The fields that Kubernetes requires of a JobSet, an Indexed Job with a pod failure policy, and its pods."""
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and document["kind"] == "JobSet"
    assert document["metadata"]["name"] and document["spec"]["network"]["enableDNSHostnames"] is True
    assert {"name", "replicas", "template"} <= set(document["spec"]["replicatedJobs"][0])
    job, pod, container = parts(document)
    assert job["completionMode"] == "Indexed" and job["parallelism"] == job["completions"] >= 1
    assert job["backoffLimit"] == 0 and job["podReplacementPolicy"] == "Failed"
    assert pod["restartPolicy"] == "Never"  # Kubernetes refuses a pod failure policy with any other
    assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    for rule in job["podFailurePolicy"]["rules"]:
        assert rule["action"] in {"Ignore", "FailJob", "FailIndex", "Count"}
        assert rule["onExitCodes"]["containerName"] == container["name"] and rule["onExitCodes"]["operator"] == "In"
        assert 0 not in rule["onExitCodes"]["values"]
    assert all(isinstance(variable.get("value", ""), str) for variable in container["env"])
    assert all(isinstance(amount, int) for amount in container["resources"]["limits"].values())


def test_gpus(tmp_path, capsys):
    document = manifest(tmp_path, "--launch.nodes", "4", "--launch.devices", "2", "--launch.service-account", "trainer")
    check(document)
    job, pod, container = parts(document)
    assert job["completions"] == 4 and container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert pod["serviceAccountName"] == "trainer" and "nodeSelector" not in pod
    assert capsys.readouterr().out.splitlines()[-1] == f"next: kubectl apply -f {tmp_path / 'job.yaml'}"


@pytest.mark.parametrize(
    ("topology", "machines", "slice_name"),
    [("v5e:16x16", 64, "tpu-v5-lite-podslice"), ("v5p:4x4x4", 16, "tpu-v5p-slice"), ("v6e:4x4", 4, "tpu-v6e-slice")],
)
def test_a_topology_says_machines_and_chips(tmp_path, topology, machines, slice_name):
    document = manifest(tmp_path, "--launch.topology", topology)
    check(document)
    job, pod, container = parts(document)
    assert job["completions"] == machines and container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": slice_name,
        "cloud.google.com/gke-tpu-topology": topology.split(":")[1],
    }


def test_processes_find_each_other_by_the_environment(tmp_path):
    document = manifest(tmp_path, "--launch.name", "cells-1", "--launch.nodes", "4")
    variables = {variable["name"]: variable for variable in parts(document)[2]["env"]}
    host, _, port = variables["LINGSHU_COORDINATOR"]["value"].partition(":")
    assert host == "cells-1-workers-0-0.cells-1"  # JobSet-job-index-pod, in the JobSet's headless service
    assert {"containerPort": int(port)} in parts(document)[2]["ports"]
    assert variables["LINGSHU_PROCESSES"]["value"] == "4"
    index = variables["LINGSHU_PROCESS"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_75_is_started_again_without_being_counted_and_bad_input_is_not(tmp_path):
    document = manifest(tmp_path)
    rules = {
        rule["onExitCodes"]["values"][0]: rule["action"] for rule in parts(document)[0]["podFailurePolicy"]["rules"]
    }
    assert rules == {75: "Ignore", 2: "FailJob"}
    (rule,) = document["spec"]["failurePolicy"]["rules"]
    assert rule == {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    assert document["spec"]["failurePolicy"]["maxRestarts"] == 100


def test_arguments_arrive_as_they_were_given(tmp_path):
    """Kubernetes expands $(NAME) in a command, and reads $$( as $(."""
    command = parts(manifest(tmp_path, *HOSTILE))[2]["command"]
    assert [word.replace("$$(", "$(") for word in command] == ["lingshu", "train", *TRAIN, *HOSTILE]
    assert not any("$(" in word.replace("$$(", "") for word in command)


REFUSED = {
    "no image": ["launch", "jobset", *TRAIN],
    "a name that is no label": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.name", "My_Job"],
    "a GPU topology": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "h100:8"],
    "a slice of too many axes": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5e:4x4x4"],
    "a slice of too few axes": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5p:4x4"],
    "a number of chips": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5e:64"],
    "a slice that is not offered": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5e:4x16"],
    "machines twice": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5e:4x4", "--launch.nodes", "7"],
    "runs that go with the pod": ["launch", "jobset", *TRAIN_ANYWHERE, *IMAGE],
    "a batch that does not divide": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.nodes", "3"],
    "part of a machine": ["launch", "jobset", *TRAIN, *IMAGE, "--launch.topology", "v5e:1x2"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_requests_are_one_line_and_write_nothing(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(REFUSED[what]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
