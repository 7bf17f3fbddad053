"""Signals to the only process of a run."""

import os
import signal
import subprocess
import sys

import pytest

from experiments import __main__ as command
from experiments.early_stop import stopping_early
from experiments.stopping import StopRequest

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_to_stop_and_the_handlers_come_back(number):
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested(0)
        os.kill(os.getpid(), number)
        assert stop.requested(0)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_of_either_kind_ends_at_once(first, second):
    code = (
        # A job in the background of a shell is started with SIGINT ignored.
        "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from experiments.stopping import StopRequest\nwith StopRequest():\n"
        f"    os.kill(os.getpid(), {first:d})\n    print('saving', flush=True)\n    os.kill(os.getpid(), {second:d})\n"
        "    print('saved', flush=True)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == -second and ended.stdout == "saving\n"


def test_an_interrupted_command_is_one_line(monkeypatch, capsys):
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.importlib, "import_module", interrupted)
    assert command.run(["train", "cells"]) == 130
    assert capsys.readouterr().err == "lingshu train: interrupted.\n"


def test_a_signal_before_training_ends_with_75():
    code = (
        "import os, signal\nfrom experiments.early_stop import stopping_early\nwith stopping_early():\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n    except BaseException:\n        pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 75
    assert ended.stderr == "lingshu: stopped before the first step; start again\n"


def test_while_training_the_second_signal_is_the_systems_again():
    with stopping_early():
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested(3) and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
