"""`best:METRIC@PART`: the run whose latest evaluation on a part of its split is best by a metric."""

from collections.abc import Iterable

from data_pipelines.errors import InputError
from experiments.registry.entries import RunEntry
from experiments.registry.scores import better, check_metric
from experiments.runs import RunFolder

BEST = "best:"


def best_run(reference: str, runs: Iterable[RunFolder]) -> RunFolder:
    """The run that a `best:METRIC@PART` reference names; the part is val where it is left out.

    Raises:
        InputError: no such metric or part, no run has it, or the runs were judged on different splits.
    """
    metric, _, part = reference.removeprefix(BEST).partition("@")
    check_metric(metric)
    part = part or "val"
    if part not in ("val", "test"):
        raise InputError(f"{reference!r}: write best:METRIC@val or best:METRIC@test.")
    entries = [entry for entry in _readable(runs) if entry.value(metric, part) is not None]
    if not entries:
        raise InputError(
            f"no run was evaluated by {metric} on {part}. Evaluate one: lingshu evaluate RUN --split {part}"
        )
    splits = {entry.config["split_hash"] for entry in entries}
    if len(splits) > 1:
        raise InputError(
            f"{len(entries)} runs have {metric} on {part}, on {len(splits)} different splits: they cannot be compared. "
            "Name the run; `lingshu runs --sort` shows them."
        )
    best = entries[0]
    for entry in entries[1:]:
        if better(metric, _known(entry, metric, part), _known(best, metric, part)):
            best = entry
    return best.folder


def _known(entry: RunEntry, metric: str, part: str) -> float:
    value = entry.value(metric, part)
    assert value is not None  # only such entries come here
    return value


def _readable(runs: Iterable[RunFolder]) -> Iterable[RunEntry]:
    for run in runs:
        try:
            yield RunEntry.read(run)
        except InputError:
            continue
