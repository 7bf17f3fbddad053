"""What every table of results has: rows read from evaluations on disk, and the run behind each of them."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from experiments.evaluation.results import Estimate
    from experiments.real_cells.found import Found
    from experiments.real_cells.task import Task

MISSING = "n/a"
RUN_COLUMNS = ("run", "step", "minutes: training + evaluation", "on", "seeds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture that stands below a table."""

    name: str
    """Of its file, without a suffix."""
    about: str
    png: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as markdown has it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """Lines below it."""
    drawings: tuple[Drawing, ...] = ()

    def lines(self) -> list[str]:
        """Markdown, without blank lines around it."""
        rule = tuple("---" for _ in self.columns)
        table = [
            f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (self.columns, rule, *self.rows)
        ]
        return [*table, *(line for note in self.notes for line in ("", note))]


class Reading(Protocol):
    """A question that evaluations answer, as a table."""

    def place(self, task: "Task") -> str:
        """Name of the table that the task's rows stand in."""
        ...

    def table(self, found: "Sequence[Found]") -> Table:
        """The table of everything found for one place: runs in the order of tasks and splits."""
        ...


def number(value: float | None, digits: int = 3) -> str:
    """A value as tables show it."""
    return MISSING if value is None or not np.isfinite(value) else f"{value:,.{digits}f}"


def interval(estimate: "Estimate | None", digits: int) -> str:
    """A value with its 95 % interval, where there is one."""
    if estimate is None or estimate.value is None:
        return MISSING
    ends = "" if estimate.low is None else f" [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"
    return number(estimate.value, digits) + ends


def run_cells(found: "Found") -> tuple[str, ...]:
    """What `RUN_COLUMNS` say of a run."""
    return (f"`{found.run.id}`", f"{found.step:,}", found.minutes, found.machine, str(len(found.evaluations)))


def mean_over(values: Iterable[float | None], *, seed: int = 0, draws: int = 1_000) -> "Estimate":
    """Mean over runs with a 95 % interval by bootstrap over them; missing values are left out."""
    from experiments.evaluation.results import Estimate

    known = np.array([value for value in values if value is not None and np.isfinite(value)])
    if not len(known):
        return Estimate()
    if len(known) == 1:
        return Estimate(value=float(known[0]), n=1)
    weights = np.random.default_rng(seed).multinomial(len(known), np.full(len(known), 1 / len(known)), size=draws)
    low, high = np.quantile(weights @ known / len(known), [0.025, 0.975])
    return Estimate(value=float(known.mean()), low=float(low), high=float(high), n=len(known))


def differences(mine: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    """Run by run; None where either is missing."""
    return [None if a is None or b is None else a - b for a, b in zip(mine, others, strict=True)]
