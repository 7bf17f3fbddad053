"""What a registry is told of a run: its training, and its other jobs as children of that, read from the run folder."""

import dataclasses
import itertools
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.registry.aliases import all_aliases
from experiments.registry.jobs import Point, Record, flat, flat_values, jobs, text
from experiments.registry.place import root_key
from experiments.runs import CONFIG, UID, RunFolder
from experiments.storage import Folder, absolute, storage_of

ALIAS = "alias."
"""Prefix of the tags that say which checkpoint an alias names."""
TRAIN = "train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecords:
    """Everything that a run folder tells."""

    key: str
    """Of the run folder, in a registry that holds those of many people."""
    root: str
    """RUNS."""
    experiment: str
    train: Record
    """Its digest is empty: metrics grow, and tags change."""
    started: int
    """Milliseconds since 1970."""
    finished: bool
    """It has come to its last step."""
    jobs: tuple[Record, ...]


def read_records(run: RunFolder) -> RunRecords:
    """Read a run folder.

    Raises:
        InputError: its config is damaged.
    """
    run = RunFolder(absolute(run.path))
    config = run.config()
    environment = _json(run.path / "environment.json") or {}
    uid = config.get(UID) or uuid.uuid5(uuid.NAMESPACE_URL, str(run.path)).hex[:12]
    entries = [entry for entry in run.read_metrics() if "time" in entry]
    known = {name: config[name] for name in ("identity", "store", "store_hash", "split", "split_hash")}
    if parent := config.get("parent"):
        known |= {f"parent_{name}": parent[name] for name in ("run", "step", "hash") if name in parent}
    tags = {**_tags(run, TRAIN, known), **flat(environment, "environment"), "folder": str(run.path)}
    tags |= {f"{ALIAS}{alias.name}": str(alias.step) for alias in all_aliases(run.root) if alias.run == run.name}
    step = max((entry["step"] for entry in entries), default=0)
    created = int(storage_of(run.path).modified(run.path / CONFIG) * 1000)
    began = entries[0] if entries else {"time": created / 1000}
    passed = began.get("useful_seconds", 0.0) + sum(began.get("lost_seconds", {}).values())
    train = Record(
        key=TRAIN,
        name=run.id,
        digest="",
        params=flat(config["experiment"]),
        tags=tags | {"step": str(step)},
        points=tuple(itertools.chain.from_iterable(map(points_of, entries))),
        ended=_milliseconds(entries[-1]["time"]) if entries else created,
    )
    children = tuple(dataclasses.replace(job, tags={**_tags(run, "", known), **job.tags}) for job in jobs(run))
    return RunRecords(
        key=f"{uid}:{run.name}",
        root=root_key(run.root),
        experiment=run.path.parent.name,
        train=train,
        started=_milliseconds(began["time"] - passed),
        finished=step == config["experiment"].get("training", {}).get("steps"),
        jobs=children,
    )


def points_of(entry: Mapping[str, Any]) -> Iterator[Point]:
    """The numbers in a line of metrics.jsonl."""
    for name, value in flat_values(entry):
        if name not in ("step", "time") and isinstance(value, int | float) and not isinstance(value, bool):
            yield Point(name, float(value), _milliseconds(entry["time"]), entry["step"])


def _tags(run: RunFolder, kind: str, known: Mapping[str, Any]) -> dict[str, str]:
    tags = {"run": run.name, "kind": kind, **{name: text(value) for name, value in known.items()}}
    return {name: value for name, value in tags.items() if value}


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000) if math.isfinite(seconds) else 0


def _json(path: Folder) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
