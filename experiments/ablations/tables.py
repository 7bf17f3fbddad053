"""A study's table: every variant beside the base, paired by seed."""

import pathlib
import shlex
from collections.abc import Sequence

import numpy as np

from experiments.ablations.measured import Measured, measure
from experiments.ablations.study import BASE, Study, Variant
from experiments.real_cells.plan import Plan
from experiments.real_cells.reading import MISSING, Table

COLUMNS = ("variant", "options", "seeds", "nats per validation cell", "minus base, same seeds", "minutes", "runs")


def study_table(plan: Plan, study: Study, seeds: int) -> list[str]:
    """Markdown lines; [] where nothing is there."""
    found = {
        variant: [one for seed in range(seeds) if (one := measure(plan, study, variant, seed))]
        for variant in study.all_variants
    }
    rows = tuple(_row(variant, there, found[BASE]) for variant, there in found.items() if there)
    if not rows:
        return []
    lines = Table(COLUMNS, rows).lines()
    missing = [variant.name for variant, there in found.items() if not there]
    note = [f"Not run: {'; '.join(missing)}.", ""] if missing else []
    return [*lines, "", *note, f"Base: `{shlex.join(['lingshu', *_base_command(study)])}`"]


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; a single value alone."""
    if not values:
        return MISSING
    deviation = f" ± {np.std(values, ddof=1):,.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):,.1f}{deviation}"


def _row(variant: Variant, there: Sequence[Measured], base: Sequence[Measured]) -> tuple[str, ...]:
    of_seed = {one.seed: one.nats for one in base}
    differences = [one.nats - of_seed[one.seed] for one in there if one.seed in of_seed]
    return (
        variant.name,
        f"`{shlex.join(variant.settings)}`" if variant.settings else "",
        ", ".join(str(one.seed) for one in there),
        spread([one.nats for one in there]),
        "" if variant == BASE else spread(differences),
        f"{np.mean([one.minutes for one in there]):.1f}",
        ", ".join(f"`{one.run.id}`" for one in there),
    )


def _base_command(study: Study) -> list[str]:
    shown = study.plan(Plan(runs=pathlib.Path("runs")), BASE, 0)
    return shown.train(study.task, study.task.splits[0])
