"""Run folders as jobs leave them, without a job."""

import json
import pathlib
import shutil
from typing import Any


def evaluation(part: str = "test", step: int = 3, **values: float) -> dict[str, Any]:
    """metrics.json as `lingshu evaluate` writes it, as far as a registry reads it."""
    metrics = {metric: {"value": value} for metric, value in values.items() if metric in ("pds", "mae")}
    return {
        "part": part,
        "provenance": {
            "step": step,
            "sampler": {"type": "SamplerConfig", "temperature": 1.0},
            "cells_per_condition": 4,
        },
        "versions": {"numpy": "2"},
        "settings": {"draws": 16},
        "seed": 0,
        "split_hash": "s",
        "store_hash": "t",
        "n_generated": 12,
        "n_real": 24,
        "bound": [{"name": "model", "nats": {"value": values["nats"]}, "difference": None}],
        "distribution": [],
        "cells": [],
        "effects": {"rows": [{"name": "mean_effect", "metrics": {}}, {"name": "model", "metrics": metrics}]},
        "planted": [],
    }


def add_evaluation(folder: pathlib.Path, name: str, part: str, **values: Any) -> None:
    (folder / "evaluations" / name).mkdir(parents=True, exist_ok=True)
    (folder / "evaluations" / name / "metrics.json").write_text(json.dumps(evaluation(part, **values)))


def line(step: int, **values: float) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    account = {"useful_seconds": float(step), "lost_seconds": {"start": 2.0}, "time": 1_700_000_000.0 + step}
    return {"step": step, **values, **account}


def write_lines(folder: pathlib.Path, *lines: dict[str, Any]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def copy_run(runs: pathlib.Path, to: pathlib.Path, **config: Any) -> pathlib.Path:
    """A run folder with the config and environment of the trained one, and an empty checkpoint of step 12."""
    trained = next(runs.glob("*/tiny"))
    (to / "checkpoints" / "12").mkdir(parents=True)
    shutil.copy(trained / "environment.json", to / "environment.json")
    settings = json.loads((trained / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(settings | {"uid": to.name} | config))
    write_lines(to, line(6, loss=2.0, val_nats=9.0), line(12, loss=1.0, val_nats=8.0))
    return to
