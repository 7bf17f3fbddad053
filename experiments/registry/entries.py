"""One line per run: what it is, how far it has come, how good it is."""

import dataclasses
from typing import Any

from data_pipelines.errors import InputError
from experiments.registry.history import read_progress
from experiments.registry.scores import Scored, read_scores
from experiments.runs import CONFIG, RunFolder
from experiments.storage import storage_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunEntry:
    """What is known of a run without opening a checkpoint."""

    folder: RunFolder
    config: dict[str, Any]
    step: int
    steps: int
    val_nats: float | None
    """The last held-out bound, nats per cell."""
    scores: tuple[Scored, ...]

    @classmethod
    def read(cls, folder: RunFolder) -> "RunEntry":
        """Read a run folder.

        Raises:
            InputError: it is damaged.
        """
        config, progress = folder.config(), read_progress(folder)
        try:
            steps = int(config["experiment"]["training"]["steps"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder.path / CONFIG} is damaged: it does not say how many steps.") from error
        return cls(
            folder=folder,
            config=config,
            step=progress.step,
            steps=steps,
            val_nats=progress.val_nats,
            scores=tuple(read_scores(folder)),
        )

    @property
    def experiment(self) -> str:
        return self.folder.path.parent.name

    def latest(self, part: str) -> Scored | None:
        """The evaluation on a part of the split that was written last."""
        modified = storage_of(self.folder.path).modified
        found = [scored for scored in self.scores if scored.part == part]
        return max(found, key=lambda one: modified(self.folder.evaluations / one.name / "metrics.json"), default=None)

    def value(self, metric: str, part: str) -> float | None:
        """A metric of the latest evaluation on a part; `val_nats` is the training run's own."""
        if metric == "val_nats":
            return self.val_nats
        latest = self.latest(part)
        return None if latest is None else latest.values.get(metric)
