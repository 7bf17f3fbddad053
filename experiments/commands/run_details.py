"""One run in full, and two beside each other, as text."""

import json
from typing import Any

from experiments.commands.tables import print_table, score_text
from experiments.registry.aliases import all_aliases
from experiments.registry.entries import RunEntry
from experiments.registry.scores import METRICS
from experiments.settings_diff import setting_text, settings_pairs


def print_run(entry: RunEntry) -> None:
    """Where a run is, what it was started with, how far it has come, and its evaluations."""
    config, folder = entry.config, entry.folder
    rows: list[tuple[str, Any]] = [
        ("run", folder.path),
        ("experiment", entry.experiment),
        ("step", f"{entry.step:,} of {entry.steps:,}"),
        ("held-out bound", "not measured" if entry.val_nats is None else f"{entry.val_nats:,.1f} nats/cell (val)"),
        ("store", f"{config['store']} ({config['store_hash']})"),
        ("split", f"{config['split']} ({config['split_hash']})"),
        ("settings", config["identity"]),
    ]
    if config.get("parent"):
        rows.append(("began with", json.dumps(config["parent"])))
    rows += [(f"{kind}", ", ".join(names)) for kind, names in _contents(entry).items() if names]
    for name, value in rows:
        print(f"{name:15} {value}")
    if not entry.scores:
        return
    shown = [metric for metric in METRICS if any(metric in scored.values for scored in entry.scores)]
    table = []
    for scored in entry.scores:
        cells = [score_text(metric, scored.values.get(metric)) for metric in shown]
        step = "" if scored.step is None else f"{scored.step:,}"
        table.append([scored.name, scored.part, step, f"{scored.generated:,}", *cells])
    print()
    print_table(["evaluation", "part", "step", "cells", *shown], table)


_CELLS = (".h5ad", ".zarr", ".store")


def _contents(entry: RunEntry) -> dict[str, list[str]]:
    folder = entry.folder
    return {
        "checkpoints": [str(step) for step in folder.saved_steps()],
        "aliases": [f"{alias.name} ({alias.step})" for alias in all_aliases(folder.root) if alias.run == folder.name],
        "samples": sorted(path.name for path in folder.samples.glob("*") if path.suffix in _CELLS),
        "sweeps": sorted(path.name for path in folder.sweeps.glob("*.json")),
    }


def print_difference(one: RunEntry, other: RunEntry, part: str) -> None:
    """Settings and scores in which two runs differ."""
    pairs = settings_pairs(one.config, other.config)
    rows = [[name, setting_text(before), setting_text(after)] for name, before, after in pairs]
    rows.append(["step", f"{one.step:,}", f"{other.step:,}"])
    for metric in METRICS:
        values = [entry.value(metric, part) for entry in (one, other)]
        if any(value is not None for value in values):
            where = "" if metric == "val_nats" else f" ({part})"
            rows.append([f"{metric}{where}", *(score_text(metric, value) for value in values)])
    print_table(["", one.folder.id, other.folder.id], rows)
    if one.config["split_hash"] != other.config["split_hash"]:
        print("the splits differ: these scores are of other held-out cells.")
