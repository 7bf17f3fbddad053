"""Where the results' stores and runs are, and the commands that each step of a task is."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.commands.options import runs_arguments
from experiments.experiment import Experiment
from experiments.real_cells.task import NamedSplit, Task
from experiments.runs import RunFolder
from experiments.storage import Folder

if TYPE_CHECKING:
    from experiments.evaluation.job import EvaluationSettings

_CELLS_ALONE = ("--draws", "2", "--bound-cells", "16")
"""Of evaluations that only draw cells with another seed: the bound is the first one's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One call of `lingshu results`."""

    runs: Folder
    data: pathlib.Path | None = None
    """Folder of the data sets' files; None where nothing is done but tables."""
    training: tuple[str, ...] = ()
    """Options of every `lingshu train`, beside the tasks' own: short tries."""
    evaluation: tuple[str, ...] = ()
    """Options of every `lingshu evaluate`, before the tasks' own."""

    def file(self, task: Task) -> pathlib.Path:
        """The task's data.

        Raises:
            InputError: no folder of data was given.
        """
        if self.data is None:
            raise InputError("no folder of data was given. Pass --data FOLDER.")
        return self.data / task.data.file

    def store(self, task: Task) -> str:
        """The task's cell store: one for all tasks on the same data."""
        return str(self.runs / "stores" / task.data.store)

    def store_hash(self, task: Task) -> str | None:
        """Hash of the store; None where there is none (any more)."""
        from data_pipelines import CellStore

        try:
            return CellStore.open(self.store(task)).hash
        except InputError:
            return None

    def ingest(self, task: Task) -> list[str]:
        """The command that makes the store."""
        return ["ingest", str(self.file(task)), "--out", self.store(task), *task.data.column_options()]

    def train(self, task: Task, split: NamedSplit) -> list[str]:
        """The command that trains, or goes on training."""
        where = ["--store", self.store(task), *runs_arguments(self.runs), "--data.split", split.name]
        return ["train", task.experiment, *where, *self.training]

    def evaluate(self, task: Task, run: RunFolder, seed: int) -> list[str]:
        """The command that draws cells, evaluates them and writes the run's report."""
        which = [run.name, "--whole", *runs_arguments(self.runs), "--step", str(task.stop.step(run))]
        seeded = ["--seed", str(seed), *_CELLS_ALONE] if seed else []
        return ["evaluate", *which, "--no-challenge", *self.evaluation, *task.evaluation, *seeded]

    def experiment(self, task: Task, split: NamedSplit) -> Experiment:
        """What the command to train trains."""
        from experiments.commands.train import parse_options

        return parse_options(self.train(task, split)[1:], look_into_store=False).config

    def settings(self, task: Task, run: RunFolder, seed: int) -> "EvaluationSettings":
        """What the command to evaluate depends on."""
        from experiments.commands.evaluate import parse_options

        return parse_options(self.evaluate(task, run, seed)[1:]).settings()
