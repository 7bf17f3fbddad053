"""What a finished training of a study has reached, read from its run folder."""

import dataclasses

from experiments.ablations.study import Study, Variant
from experiments.real_cells.found import finished_run, training_seconds
from experiments.real_cells.plan import Plan
from experiments.runs import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One training."""

    variant: Variant
    seed: int
    run: RunFolder
    nats: float
    """The lowest bound on validation cells, nats per cell."""
    minutes: float
    """Wall time of training."""


def measure(plan: Plan, study: Study, variant: Variant, seed: int) -> Measured | None:
    """None where the run is not finished, or has no validation cells."""
    run = finished_run(study.plan(plan, variant, seed), study.task, study.task.splits[0])
    if run is None:
        return None
    watched = [entry["val_nats"] for entry in run.read_metrics() if "val_nats" in entry]
    if not watched:
        return None
    minutes = training_seconds(run) / 60
    return Measured(variant=variant, seed=seed, run=run, nats=min(watched), minutes=minutes)
