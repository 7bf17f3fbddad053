"""Every parser on a few inputs that hypothesis thinks of, and on those that found bugs. `make fuzz` gives them more."""

import json

import pytest

from data_pipelines import CellStore
from tests.fuzz.fuzzing import Found, attempt, fuzz
from tests.fuzz.targets import RUN, STORE, targets

TARGETS = {target.name: target for target in targets()}
EXAMPLES = 40
CONFIG = json.loads((RUN / "config.json").read_text())
FOUND = {
    "a list of files that is no text": ("store: contents/files.txt", b"X/data/c/0\n\xfe\n"),
    "a manifest that is null": ("store: manifest", b"null"),
    "a manifest without totals": ("store: manifest", b'{"format": 2}'),
    "a manifest of a column that is not in obs": (
        "store: manifest",
        json.dumps(CellStore.open(STORE).manifest).replace('"gem_group"', '"lane"').encode(),
    ),
    "array metadata that are none": ("store: X/data/zarr.json", b"{}"),
    "array metadata of another codec": (
        "store: X/data/zarr.json",
        (STORE / "X/data/zarr.json").read_bytes().replace(b'"sharding_indexed"', b'"pickle"', 1),
    ),
    "a description that is null": ("checkpoint: description", b"null"),
    "a description of lists": ("checkpoint: description", b'{"format": 2, "experiment": [], "panel": []}'),
    "a parent that is a number": ("run: config.json", json.dumps(CONFIG | {"parent": 3}).encode()),
    "an experiment that is a list": ("run: config.json", json.dumps(CONFIG | {"experiment": []}).encode()),
    "a store that is a number": ("run: config.json", json.dumps(CONFIG | {"store": 3}).encode()),
    "data that are text": ("settings as JSON", json.dumps(CONFIG["experiment"] | {"model": "x", "data": "y"}).encode()),
    "a split that is a list": ("store: splits/default.json", b"[]"),
    "a place of two lines": ("place of a store", b"fi\nle://x"),
    "a sweep that is a list": ("sweep", b"[1]"),
}
"""Inputs that once got past a parser, and their likely neighbours: (parser, document)."""


def _told(found: Found) -> str:
    return "\n".join(f"{what}: {content[:300]!r}" for what, content in found.uncaught.items())


@pytest.mark.parametrize("name", TARGETS)
def test_only_errors_of_ours_come_out(name):
    found = fuzz(TARGETS[name], examples=EXAMPLES)
    assert found.inputs >= EXAMPLES // 2
    assert not found.uncaught, _told(found)


@pytest.mark.parametrize("what", FOUND)
def test_what_once_came_through_is_refused(what):
    name, content = FOUND[what]
    found = Found()
    attempt(TARGETS[name], content, found)
    assert not found.uncaught, _told(found)
    assert found.refusals.total() == 1


def test_what_is_valid_is_read():
    """The documents that the inputs are made from: a parser that refuses everything is tested by nothing."""
    found = Found()
    for name in ("run: config.json", "run: metrics.jsonl"):
        attempt(TARGETS[name], (RUN / name.removeprefix("run: ")).read_bytes(), found)
    for name in ("store: zarr.json", "store: splits/default.json", "store: X/data/zarr.json"):
        attempt(TARGETS[name], (STORE / name.removeprefix("store: ")).read_bytes(), found)
    assert not found.uncaught and not found.refusals
