"""`lingshu runs ui`: MLflow's page, on this machine alone."""

import os

import pytest

from experiments.__main__ import run
from experiments.commands import registry


@pytest.fixture
def started(monkeypatch) -> list:
    """Commands that would have been run."""
    commands: list = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: commands.append((command, environment)))
    monkeypatch.setattr(registry, "has_page", lambda: True)
    return commands


def ui(root, *more: str) -> int:
    return run(["runs", "ui", "--runs", str(root), *more])


def test_it_listens_on_loopback_and_reports_nothing_to_anybody(root, started, capsys):
    ui(root, "--port", "5077")
    ((command, environment),) = started
    assert command[command.index("--host") + 1] == "127.0.0.1" and command[command.index("--port") + 1] == "5077"
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{root}/registry.db"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "http://127.0.0.1:5077" in capsys.readouterr().out


def test_a_server_that_runs_is_named(root, started, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example")
    assert ui(root) == 0 and not started
    assert capsys.readouterr().out == "the registry is a server already: open https://mlflow.example\n"


def test_what_is_missing_is_one_line(root, started, monkeypatch, capsys):
    assert ui(root, "--port", "70000") == 2
    monkeypatch.setattr(registry, "has_page", lambda: False)
    assert ui(root) == 2
    (root / "registry.db").unlink()
    assert ui(root) == 2
    monkeypatch.setenv("LINGSHU_REGISTRY", "none")
    assert ui(root) == 2
    said = capsys.readouterr().err.splitlines()
    assert ["--port" in said[0], "`ui` extra" in said[1], "runs --rebuild" in said[2], "switched off" in said[3]] == [
        True
    ] * 4
    assert len(said) == 4 and not started
