import concurrent.futures
import socket

import pytest

from lingshu_jax.parallel.cluster import Place, find_place
from lingshu_jax.parallel.config import DistributedConfig
from lingshu_jax.parallel.distributed import barrier, is_leader, lead, several
from lingshu_jax.parallel.roll_call import AddressTaken, MissingProcesses, call_roll, hung_up


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def call(present, processes: int, seconds: float) -> dict[int, str | None]:
    """What each process that is there hears."""
    address = f"localhost:{free_port()}"

    def one(process: int) -> str | None:
        try:
            for line in call_roll(Place(address, processes, process), seconds).values():
                line.close()
        except MissingProcesses as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor(len(present)) as pool:
        return dict(zip(present, pool.map(one, present), strict=True))


def test_all_are_there():
    assert call([3, 1, 0, 2], 4, 30) == {0: None, 1: None, 2: None, 3: None}


def test_everybody_hears_who_is_missing():
    heard = call([0, 2, 4], 6, 2)
    assert all("processes 1, 3, 5 of 6 have not arrived at localhost:" in said for said in heard.values())
    assert "(this is process 4)" in heard[4]


def test_without_process_0_that_is_missing():
    heard = call([1, 2], 3, 1)
    assert all(said.startswith("process 0 of 3 has not arrived at localhost:") for said in heard.values())


def test_strangers_on_the_port_are_no_processes():
    address = f"localhost:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(call_roll, Place(address, 2, 0), 30)
        while True:
            try:
                stranger = socket.create_connection(("localhost", int(address.split(":")[1])))
                break
            except OSError:
                continue
        stranger.sendall(b"GET / HTTP/1.1\n")
        (line,) = pool.submit(call_roll, Place(address, 2, 1), 30).result(timeout=40).values()
        lines = first.result(timeout=40)
    assert list(lines) == [1] and hung_up(lines) == []
    line.close()
    assert hung_up(lines) == [1]
    for open_line in (stranger, *lines.values()):
        open_line.close()


def test_a_port_that_another_program_keeps_is_named():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"port {port} of this machine, the coordinator's, is taken"):
            call_roll(Place(f"localhost:{port}", 2, 0), 0.3)


def test_a_port_that_becomes_free_is_waited_for():
    other = socket.create_server(("", 0))
    address = f"localhost:{other.getsockname()[1]}"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(call_roll, Place(address, 2, 0), 30)
        other.close()
        second = pool.submit(call_roll, Place(address, 2, 1), 30)
        for lines in (first.result(timeout=40), second.result(timeout=40)):
            for line in lines.values():
                line.close()


EXPLICIT = DistributedConfig(coordinator="host:1234", processes=4, process=2)
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[3-6]", "SLURM_LOCALID": "0", "SLURM_PROCID": "1"}
JOB_SET = {"LINGSHU_COORDINATOR": "job-0.job:8476", "LINGSHU_PROCESSES": "2", "JOB_COMPLETION_INDEX": "1"}


@pytest.mark.parametrize(
    ("config", "environment", "place"),
    [
        (DistributedConfig(), {}, None),
        (EXPLICIT, {}, Place("host:1234", 4, 2)),
        (EXPLICIT, JOB_SET, Place("host:1234", 4, 2)),
        (DistributedConfig(), JOB_SET, Place("job-0.job:8476", 2, 1)),
        (DistributedConfig(process=0), {**JOB_SET, "LINGSHU_PROCESS": "1"}, Place("job-0.job:8476", 2, 0)),
        (DistributedConfig(coordinator="h:1", processes=1, process=0), {}, None),
        (DistributedConfig(), {"JOB_COMPLETION_INDEX": "3"}, None),
        (DistributedConfig(), {"LINGSHU_PROCESSES": "1"}, None),
        (DistributedConfig(processes=1), {"SLURM_STEP_NUM_TASKS": "4"}, None),
        (DistributedConfig(), {**SLURM, "SLURM_NTASKS": "4"}, None),  # sbatch without srun is one process
    ],
)
def test_places_from_settings_and_environment(config, environment, place):
    assert find_place(config, environment) == place


def test_srun_is_seen(monkeypatch):
    for name, value in {**SLURM, "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}.items():
        monkeypatch.setenv(name, value)
    found = find_place(DistributedConfig(), {"SLURM_STEP_NUM_TASKS": "4"})
    assert found is not None and (found.processes, found.process) == (4, 1)
    assert found.coordinator.startswith("node3:")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (DistributedConfig(coordinator="h:1"), "--distributed.processes .*, --distributed.process .* are missing"),
        (DistributedConfig(processes=2, process=0), r"--distributed.coordinator \(LINGSHU_COORDINATOR\) is missing"),
        (DistributedConfig(coordinator="h:99999", processes=2, process=0), "PORT in 1..65535, got 'h:99999'"),
        (DistributedConfig(coordinator="h:0", processes=2, process=0), "PORT in 1..65535, got 'h:0'"),
        (DistributedConfig(coordinator="http://h:80", processes=2, process=0), "must be HOST:PORT"),
        (DistributedConfig(coordinator="h", processes=2, process=0), "must be HOST:PORT, .*got 'h'"),
        (DistributedConfig(coordinator="h:1", processes=2, process=2), "process 2 is none of 2 processes"),
    ],
)
def test_what_is_not_enough_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        find_place(config, {})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LINGSHU_PROCESSES": "2", "LINGSHU_PROCESS": "0"}, "--distributed.coordinator .* is missing"),
        ({"LINGSHU_PROCESSES": "2"}, "are missing"),
        ({"LINGSHU_PROCESS": "1"}, "are missing"),
        ({**JOB_SET, "LINGSHU_PROCESSES": "0"}, "LINGSHU_PROCESSES must be >= 1"),
        ({**JOB_SET, "LINGSHU_PROCESSES": "²"}, "LINGSHU_PROCESSES must be a number"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_STEP_NUM_TASKS=2 says that this is one of several processes, but jax"),
    ],
)
def test_a_half_told_environment_does_not_train_alone(environment, said):
    with pytest.raises(ValueError, match=said):
        find_place(DistributedConfig(), environment)


def test_one_process_decides_for_itself():
    assert lead("anything", lambda: 7) == 7 and is_leader() and not several()
    barrier("nothing")
