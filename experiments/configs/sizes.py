"""Model sizes for anyone's own data: tiny for a laptop, small for one accelerator, base as in the paper."""

import dataclasses
from typing import Literal, get_args

from experiments.accelerators import accelerator_visible
from experiments.experiment import DataConfig, Experiment
from lingshu_jax.model import DenoiserConfig, DepthNB, KeepAll, LowRankFactors
from lingshu_jax.training.config import OptimizerConfig, TrainingConfig

Size = Literal["tiny", "small", "base"]
SIZES: tuple[Size, ...] = get_args(Size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataShape:
    """How large a store is."""

    cells: int = 1_000_000
    genes: int = 18_080


def choose_size(shape: DataShape) -> Size:
    """tiny without an accelerator; with one, base from 100,000 cells up, else small."""
    if not accelerator_visible():
        return "tiny"
    return "base" if shape.cells >= 100_000 else "small"


def sized_experiment(name: str, size: Size | None, shape: DataShape, steps: int | None = None) -> Experiment:
    """An experiment at a size, with everything else at its default; `steps` other than the size's."""
    size = size or choose_size(shape)
    # On a CPU attention is most of a step on a wide panel: half the positions cost a quarter of it.
    slots = 8 if shape.genes <= 4096 else 64 if size == "tiny" else 32
    common = {
        "genes_per_patch": slots,
        "start": DepthNB(),
        "factors": LowRankFactors(rank=32),
        "zero_origin": True,
        "input_scale": 2.0,
    }
    sizes = {
        "tiny": DenoiserConfig(width=64, blocks=2, heads=1, ffn_width=128, dtype="float32", remat=KeepAll(), **common),
        "small": DenoiserConfig(width=256, blocks=6, heads=4, ffn_width=1024, **common),
        "base": DenoiserConfig(width=640, blocks=13, heads=10, ffn_width=2560, **common),
    }
    learning_rate, warmup, usual, batch = {
        "tiny": (3e-3, 50, 1_000, 64),
        "small": (1e-3, 500, 20_000, 128),
        "base": (3e-4, 1_000, 100_000, 256),
    }[size]
    steps = steps or usual
    every = max(steps // 10, 1)
    return Experiment(
        name=name,
        model=sizes[size],
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=warmup),
        training=TrainingConfig(
            steps=steps,
            batch_size=batch,
            ema_decay=0.98 if size == "tiny" else 0.999,
            log_every=max(every // 5, 1),
            evaluate_every=every,
            evaluate_draws=2 if size == "tiny" else 4,
            save_every=every,
        ),
    )


def without_labels(experiment: Experiment, name: str) -> Experiment:
    """The experiment told nothing of a cell, on a store that has labels: what they are worth is told by comparison."""
    return dataclasses.replace(experiment, name=name, data=DataConfig(context=False, perturbation=False, numbers=False))
