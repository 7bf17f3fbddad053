"""One line per run: what it is, how far it has come, how good it is."""

import dataclasses
from typing import Any

from experiments.registry.scores import Scored, read_scores
from experiments.runs import RunFolder
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
        config, experiment, lines = folder.config(), folder.experiment(), folder.read_metrics()
        bounds = [line["val_nats"] for line in lines if "val_nats" in line]
        return cls(
            folder=folder,
            config=config,
            step=max((line["step"] for line in lines), default=0),
            steps=experiment.training.steps,
            val_nats=bounds[-1] if bounds else None,
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
