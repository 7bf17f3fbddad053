"""One config object is one experiment: data, model, optimizer, training, mesh and sampler; importable without jax."""

import dataclasses
import re
from typing import Annotated

import tyro

from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.model import DenoiserConfig, NoFeatures
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.config import OptimizerConfig, TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which cells and which of the store's columns the model sees."""

    split: str = "default"
    """Name of the store's split; its training cells are trained on, its validation cells watched."""
    context: bool = True
    """Condition on the store's context columns."""
    perturbation: bool = True
    """Condition on the store's perturbation column."""
    numbers: bool = True
    """Condition on the store's columns of numbers (dose, time)."""
    library_size: bool = False
    """Condition on the log of a cell's total count, `log_library_size`, so that cells of a size can be asked for."""
    workers: int = 0
    """Loader processes per host; 0 reads in threads."""
    balance: tuple[str, ...] = ()
    """obs columns over whose combinations training cells are balanced (`_source`: the input files); none by default."""
    evenness: float = 1.0
    """1 gives every combination the same weight, 0 its share of the cells."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"data.workers must be >= 0, got {self.workers}.")
        if not 0 <= self.evenness <= 1:
            raise ValueError(f"data.evenness must lie in 0..1, got {self.evenness}.")


def is_moving(reference: str) -> bool:
    """Whether a reference names another run as runs come and go."""
    return reference == "latest" or reference.startswith("best:")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig:
    """What the weights begin with: random values, or those of another run (fine-tuning)."""

    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """The run to begin with: a folder, an id or its beginning, a name. Its genes and labels may be others."""
    step: int | None = None
    """Which of its checkpoints; the newest where not given."""
    freeze: tuple[str, ...] = ()
    """Parts that are not trained: names (blocks, embedding, blocks.qkv) or regular expressions of them."""

    def __post_init__(self) -> None:
        if self.source is not None and is_moving(self.source):
            raise ValueError(
                f"init.from must name a run: `{self.source}` may be this one as soon as it has begun, and the same "
                f"command would not go on with it."
            )
        if self.source is None and (self.step is not None or self.freeze):
            raise ValueError("init.step and init.freeze need a run to begin with: init.from.")
        for pattern in self.freeze:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"init.freeze {pattern!r} is no regular expression: {error}.") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run, but for the cells themselves."""

    name: Annotated[str, tyro.conf.Suppress]
    data: DataConfig = DataConfig()
    model: DenoiserConfig = DenoiserConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    mesh: MeshConfig = MeshConfig()
    sampler: SamplerConfig = SamplerConfig()
    init: InitConfig = InitConfig()
    seed: int = 0
    """Seed of initial weights, gene order, batches and noise."""

    def __post_init__(self) -> None:
        if self.optimizer.perturbation_decay is not None and isinstance(self.model.features, NoFeatures):
            raise ValueError(
                "optimizer.perturbation_decay is of perturbations' rows beside target features, and this model is told "
                "none: add --model.features target, or leave it out."
            )
