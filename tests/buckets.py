"""An S3 server of this machine (moto), for tests of object stores."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from unittest import mock

import pytest

_numbers = itertools.count()


@contextlib.contextmanager
def s3_server(**more: str) -> Iterator[dict[str, str]]:
    """A server, and the environment in which programs find it; set here as well."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        **more,
    }
    with mock.patch.dict(os.environ, environment):
        yield environment
    server.stop()


def new_bucket(environment: dict[str, str]) -> str:
    """The URL of an empty bucket."""
    import requests

    name = f"bucket{next(_numbers)}"
    requests.put(f"{environment['AWS_ENDPOINT_URL']}/{name}", timeout=10).raise_for_status()
    return f"s3://{name}"
