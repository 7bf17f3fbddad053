"""A task on real cells: an experiment, the data it is for, the cells it holds out, what its evaluation is read for."""

import dataclasses
from typing import TYPE_CHECKING, Protocol

from data_pipelines.columns import Columns
from data_pipelines.splits import RandomCells, SplitKind

if TYPE_CHECKING:
    from experiments.real_cells.reading import Reading
    from experiments.runs import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
    """A file of counts that anyone can get."""

    file: str
    """Its name in the folder of data."""
    columns: Columns
    """What its obs columns mean, told to `lingshu ingest`."""
    about: str
    """What it is, and how large."""
    source: str
    """Where it is published."""

    @property
    def store(self) -> str:
        """Name of its cell store."""
        return f"{self.file.removesuffix('.h5ad')}.store"

    def column_options(self) -> list[str]:
        """`--columns.*` of `lingshu ingest`."""
        columns = self.columns
        given = {
            "context": ",".join(columns.context),
            "perturbation": columns.perturbation,
            "control": ",".join(columns.control),
            "batch": columns.batch,
        }
        return [word for name, value in given.items() if value for word in (f"--columns.{name}", value)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedSplit:
    """One split of a task's store: one run."""

    name: str
    kind: SplitKind


STANDARD = NamedSplit(name="cells", kind=RandomCells())
"""The file's cells at random: the last 20 % are the test, validation is cut from those before."""


class Stop(Protocol):
    """Which checkpoint of a finished run is evaluated."""

    def step(self, run: "RunFolder") -> int: ...


@dataclasses.dataclass(frozen=True)
class LastStep:
    """The last one: where no validation cells are like the test cells."""

    def step(self, run: "RunFolder") -> int:
        return run.saved_steps()[-1]


@dataclasses.dataclass(frozen=True)
class BestValidation:
    """The one with the lowest bound on validation cells, which training keeps."""

    def step(self, run: "RunFolder") -> int:
        saved = run.saved_steps()
        watched = {e["step"]: e["val_nats"] for e in run.read_metrics() if "val_nats" in e and e["step"] in saved}
        return min(watched, key=lambda step: watched[step]) if watched else saved[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked of one experiment on one data set."""

    experiment: str
    """Name of the experiment, and of the task."""
    data: DataSet
    reads: "tuple[Reading, ...]"
    """The tables that its evaluations go into."""
    splits: tuple[NamedSplit, ...] = (STANDARD,)
    """One run each."""
    seeds: int = 1
    """Sets of generated cells, each with a seed of its own; the bound is of the first."""
    stop: Stop = BestValidation()
    evaluation: tuple[str, ...] = ()
    """Options of `lingshu evaluate --whole`."""
