import threading

import obstore
import pytest

from data_pipelines.errors import Interrupted
from experiments import leases
from experiments.leases import leased
from lingshu_jax.buckets.files import place_of
from tests.buckets import new_bucket, s3_server


@pytest.fixture(scope="module")
def server():
    with s3_server() as environment:
        yield environment


@pytest.fixture
def lock(server, monkeypatch) -> str:
    monkeypatch.setattr(leases, "REFRESH_SECONDS", 0.1)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.0)
    return f"{new_bucket(server)}/run/lock"


def test_one_holds_it_and_leaves_nothing(lock):
    with leased(lock, "held"), pytest.raises(Interrupted, match="held"), leased(lock, "held"):
        pass
    store, key = place_of(lock)
    with pytest.raises(FileNotFoundError):
        obstore.head(store, key)


def test_one_whose_holder_is_gone_is_taken_over(lock, capsys):
    store, key = place_of(lock)
    obstore.put(store, key, b"of a process that was killed")
    with leased(lock, "held"):
        pass
    assert f"{lock} is there: waiting up to 1 s" in capsys.readouterr().err


def test_a_holder_who_lost_it_is_told(lock):
    store, key = place_of(lock)
    told, lines = threading.Event(), []

    def lost(line: str) -> None:
        lines.append(line)
        told.set()

    with leased(lock, "held", lost=lost):
        obstore.put(store, key, b"another's")
        assert told.wait(20)
    assert "was taken by another process" in lines[0]
    assert bytes(obstore.get(store, key).bytes()) == b"another's"
