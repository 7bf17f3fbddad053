"""A run's sampling, evaluation and sweep jobs as a registry is told of them, from the files that they left."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from experiments.registry.scores import challenge_values, metric_values
from experiments.runs import RunFolder
from experiments.storage import Folder, storage_of


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    time: int
    """Milliseconds since 1970."""
    step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One job, as the registry has it."""

    key: str
    """Of the job within its run."""
    name: str
    digest: str
    """Of the file that it was read from: it changes when the job is done again."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]
    ended: int
    """Milliseconds since 1970."""


def jobs(run: RunFolder) -> Iterator[Record]:
    """Whatever the run's other commands left; what cannot be read is left out, since its own command says so."""
    for pattern, read in (
        ("evaluations/*/metrics.json", _evaluation),
        ("samples/*.json", _sample),
        ("sweeps/*.json", _sweep),
    ):
        for file in sorted(run.path.glob(pattern)):
            content = file.read_bytes()
            digest = hashlib.blake2b(content, digest_size=8).hexdigest()
            try:
                yield read(file, digest, json.loads(content))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue


def _evaluation(file: Folder, digest: str, tree: Any) -> Record:
    drawn = tree["provenance"]
    told = {
        "kind": "evaluation",
        "part": tree["part"],
        "step": tree.get("step", drawn.get("step")),
        "store_hash": tree["store_hash"],
        "split_hash": tree["split_hash"],
        "seed": tree["seed"],
        "cells": tree["n_generated"],
        "real_cells": tree["n_real"],
        "request": drawn.get("request"),
        "folder": str(file.parent),
        **{f"version.{name}": version for name, version in tree["versions"].items()},
    }
    params = flat(drawn.get("sampler") or {}, "sampler") | flat(tree.get("settings") or {}, "evaluation")
    params |= {f"sample.{name}": text(drawn[name]) for name in _DRAWN if name in drawn}
    return _record(
        file, digest, f"evaluations/{file.parent.name}", told, params, metric_values(tree) | challenge_values(tree)
    )


_DRAWN = ("seed", "unseen", "dtype", "platform", "device", "cells_per_condition")


def _sample(file: Folder, digest: str, tree: Any) -> Record:
    drawn = tree["provenance"]
    told = {"kind": "sample", **{name: tree[name] for name in ("file", "cells", "conditions", "request")}}
    told |= {name: drawn[name] for name in ("step", "store_hash", "split_hash")}
    params = flat(drawn["sampler"], "sampler") | {name: text(drawn[name]) for name in _DRAWN if name in drawn}
    return _record(file, digest, f"samples/{file.name.removesuffix('.json')}", told, params, {})


def _sweep(file: Folder, digest: str, tree: Any) -> Record:
    told = {"kind": "sweep", **{name: tree[name] for name in ("part", "step", "seed", "split_hash", "conditions")}}
    values = {
        f"{metric}/{row['name']}" + ("" if row["steps"] is None else f" {row['steps']} w {row['scale']:g}"): value
        for row in (*tree["reference"], *tree["rows"])
        for metric, value in row["values"].items()
        if value is not None
    }
    return _record(file, digest, f"sweeps/{file.name.removesuffix('.json')}", told | {"file": str(file)}, {}, values)


def _record(
    file: Folder, digest: str, key: str, told: dict[str, Any], params: Mapping[str, str], values: Mapping[str, float]
) -> Record:
    ended = int(storage_of(file).modified(file) * 1000)
    step = told.get("step") or 0
    return Record(
        key=key,
        name=f"{told['kind']} {key.rpartition('/')[2]}",
        digest=digest,
        params=params,
        tags={name: text(value) for name, value in told.items() if value is not None},
        points=tuple(Point(name, float(value), ended, step) for name, value in values.items()),
        ended=ended,
    )


def flat_values(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree of JSON objects, named `section.name`."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flat_values(value, f"{prefix}.{name}".removeprefix("."))
    else:
        yield prefix, tree


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as `section.name`: text."""
    return {name: text(value) for name, value in flat_values(tree, prefix)}


def text(value: Any) -> str:
    """A JSON value as a tag or parameter shows it."""
    return value if isinstance(value, str) else json.dumps(value)
