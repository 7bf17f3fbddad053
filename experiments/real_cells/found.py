"""What is there of a task: its finished run and its evaluations, known by their settings, read from run folders."""

import dataclasses
import json
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.evaluation.results import METRICS_FILE, Evaluation
from experiments.real_cells.plan import Plan
from experiments.real_cells.task import NamedSplit, Task
from experiments.runs import RunFolder, all_runs

if TYPE_CHECKING:
    from experiments.evaluation.job import EvaluationSettings

_NOT_TRAINING = "stopped"
"""Of a run's lost time: nothing ran."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A finished run of a task on one split, and its evaluations by seed."""

    task: Task
    split: NamedSplit
    run: RunFolder
    evaluations: tuple[Evaluation, ...]
    """Of the seeds that are done, the first first."""

    @property
    def first(self) -> Evaluation:
        return self.evaluations[0]

    @property
    def step(self) -> int:
        """The checkpoint that is evaluated."""
        return self.task.stop.step(self.run)

    @property
    def minutes(self) -> str:
        """Wall time of training and of all evaluations."""
        evaluated = sum(one.seconds or 0.0 for one in self.evaluations)
        return f"{training_seconds(self.run) / 60:.1f} + {evaluated / 60:.1f}"

    @property
    def machine(self) -> str:
        """What the run was trained on."""
        try:
            environment = json.loads((self.run.path / "environment.json").read_text())
        except (OSError, ValueError):
            return "?"
        if environment.get("platform") != "cpu":
            return f"{environment.get('devices')} x {environment.get('device')}"
        cores = environment.get("cores")
        return "CPU" if cores is None else f"{cores} core{'s' * (cores != 1)}"


def training_seconds(run: RunFolder) -> float:
    """Wall time of a run, over all its starts, without the time between them."""
    accounts = [entry for entry in run.read_metrics() if "useful_seconds" in entry]
    if not accounts:
        return 0.0
    lost = accounts[-1]["lost_seconds"]
    return accounts[-1]["useful_seconds"] + sum(seconds for cause, seconds in lost.items() if cause != _NOT_TRAINING)


def finished_run(plan: Plan, task: Task, split: NamedSplit) -> RunFolder | None:
    """The run of these settings on the split that has come to its last step; the newest of several."""
    wanted = plan.experiment(task, split)
    store_hash = plan.store_hash(task)
    for run in all_runs(plan.runs):
        if run.path.parent.name != wanted.name:
            continue
        try:
            config = run.config()
            same = run.experiment() == wanted and store_hash in (None, config["store_hash"])
        except InputError:
            continue  # another version's, or damaged
        if same and wanted.training.steps in run.saved_steps():
            return run
    return None


def find(plan: Plan, task: Task, split: NamedSplit) -> Found | None:
    """The run and its evaluations; None until the first seed is evaluated."""
    run = finished_run(plan, task, split)
    if run is None:
        return None
    step = task.stop.step(run)
    evaluations = []
    for seed in range(task.seeds):
        one = evaluation_of(run, step, plan.settings(task, run, seed))
        if one is not None:
            evaluations.append(one)
        elif seed == 0:
            return None
    return Found(task, split, run, tuple(evaluations))


def evaluation_of(run: RunFolder, step: int, settings: "EvaluationSettings") -> Evaluation | None:
    """The evaluation of the run's own test cells at a checkpoint, by exactly these settings; None if there is none."""
    for path in sorted(run.evaluations.glob(f"*-{step}-*/{METRICS_FILE}")):
        try:
            one = Evaluation.load(path.parent)
        except (InputError, OSError):
            continue  # half-written or damaged: evaluated again
        own = one.provenance.get("run") == run.id and one.provenance.get("seed") == settings.seed
        if own and one.part == "test" and one.step == step and one.settings == dataclasses.asdict(settings):
            return one
    return None
