"""What a fine-tuned run began with, as its own config.json tells it: the same command goes on, whatever became of the
parent since."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from data_pipelines.errors import InputError
from experiments.config_json import to_json
from experiments.experiment import Experiment
from experiments.inheritance import Parent, find_parent
from experiments.runs import CONFIG, RunFolder, run_id
from experiments.storage import Folder
from lingshu_jax.model.config import DenoiserConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """The checkpoint that a run begins, or has begun, with."""

    record: dict[str, Any]
    """Run, step and hash of the parent, as they stand in the run's config.json."""
    parent: Parent | None = None
    """Read already; a run that goes on does not need it."""

    @property
    def hash(self) -> str:
        return self.record["hash"]

    def read(self, experiment: Experiment, root: Folder) -> Parent:
        """The parent at the step that the run has begun with.

        Raises:
            InputError: it is gone, or is another one now.
        """
        if self.parent is not None:
            return self.parent
        parent = find_parent(dataclasses.replace(experiment.init, step=self.record["step"]), root)
        if parent.hash != self.hash:
            raise InputError(
                f"--init.from {experiment.init.source}: the run began with another checkpoint of step "
                f"{self.record['step']:,}, and has saved none of its own. Start another with --new."
            )
        return parent


def begun_with(
    experiment: Experiment, store_hash: str, split_hash: str, root: Folder, name: str | None
) -> dict[str, Any] | None:
    """The record of the parent in the run that the same settings have started; None where there is none.

    A run that was not named is known by its id, which holds the parent's hash; so all of the experiment's are asked.
    """
    for run, config in _children(experiment.name, root, name):
        record = config["parent"]
        identity = run_id(experiment, store_hash, split_hash, record["hash"])
        same = config["experiment"]["init"] == to_json(experiment.init) and config["identity"] == identity
        if same and run.id == (name or identity):
            return record
    return None


def recorded_model(experiment: str, source: str, root: Folder, name: str | None) -> DenoiserConfig | None:
    """The model of a run of this experiment that began with `--init.from SOURCE`; None where there is none."""
    for run, config in _children(experiment, root, name):
        if config["experiment"]["init"]["source"] == source:
            return run.experiment().model
    return None


def _children(experiment: str, root: Folder, name: str | None) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Runs of an experiment, or the named one, that began with another one's weights, and their configs."""
    folders = [root / experiment / name] if name else [path.parent for path in root.glob(f"{experiment}/*/{CONFIG}")]
    for run in map(RunFolder, folders):
        with contextlib.suppress(InputError, KeyError, TypeError):  # no run, or a damaged one: told where it is opened
            config = run.config()
            if config["parent"] and config["parent"].keys() >= {"hash", "step"} and config["experiment"]["init"]:
                yield run, config
