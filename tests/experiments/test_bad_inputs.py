"""Bad input, of every command: exit status 2, one line that says what, where and what to do, nothing left behind.

Settings that differ are listed below the line, one each.
"""

import hashlib
import pathlib

import pytest

from experiments.__main__ import COMMANDS, run
from tests.experiments.bad_inputs import GROUPS, World


def _state(*roots: pathlib.Path) -> dict[str, str]:
    """Every file and folder, with what is in it."""
    found = {}
    for path in sorted(path for root in roots for path in root.rglob("*")):
        found[str(path)] = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def _wrong(arguments: list[str], said: str, world: World, capsys) -> str | None:
    """What is wrong with the answer to bad input; None where it is as it should be."""
    roots = (world.folder, world.store, world.runs)
    before = _state(*roots)
    try:
        status = run(arguments)
    except BaseException as error:
        return f"raised {type(error).__name__}: {error}"
    printed = capsys.readouterr()
    line = printed.err
    if status != 2:
        return f"ended with {status}: {line or printed.out}"
    first, *more = line.splitlines() or [""]
    if any(not row.startswith("  ") for row in more) or not line.startswith(f"lingshu {arguments[0]}: "):
        return f"said {line!r}"
    if said not in first:
        return f"does not say {said!r}: {line!r}"
    after = _state(*roots)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return f"left or changed {sorted(changed)}" if changed else None


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_bad_input_is_one_line_and_nothing_is_left(group, screen_file, store, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path, screen_file, store, runs)
    cases = list(group(world))
    capsys.readouterr()
    failures = []
    for what, arguments, said in cases:
        if problem := _wrong(arguments, said, world, capsys):
            failures.append(f"{what}: {problem}")
    assert not failures, f"{len(failures)} of {len(cases)}\n" + "\n".join(failures)


def test_every_command_is_asked(screen_file, store, runs, tmp_path):
    asked = []
    for group in GROUPS:
        (tmp_path / group.__name__).mkdir()
        asked += [arguments[0] for _, arguments, _ in group(World(tmp_path / group.__name__, screen_file, store, runs))]
    assert set(asked) == set(COMMANDS)
    assert len(asked) > 250
