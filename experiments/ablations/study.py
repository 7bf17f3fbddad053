"""A study: a base training, and others that differ from it by one setting each."""

import dataclasses

from experiments.real_cells.plan import Plan
from experiments.real_cells.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One setting changed."""

    name: str
    settings: tuple[str, ...] = ()
    """Options of `lingshu train`."""


BASE = Variant(name="base")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A table of variants."""

    name: str
    task: Task
    """Experiment, data and split of all trainings."""
    settings: tuple[str, ...]
    """Options of `lingshu train` that all of them have."""
    variants: tuple[Variant, ...]

    @property
    def all_variants(self) -> tuple[Variant, ...]:
        """The base first."""
        return (BASE, *self.variants)

    def plan(self, plan: Plan, variant: Variant, seed: int) -> Plan:
        """The plan whose command trains a variant."""
        settings = (*self.settings, *variant.settings, "--seed", str(seed), *plan.training)
        return dataclasses.replace(plan, training=settings)
