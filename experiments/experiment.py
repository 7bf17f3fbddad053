"""One config object is one experiment: data, model, optimizer, training, mesh and sampler; importable without jax."""

import dataclasses
from typing import Annotated

import tyro

from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.model import DenoiserConfig
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
    seed: int = 0
    """Seed of initial weights, gene order, batches and noise."""
