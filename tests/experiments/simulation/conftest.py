import pandas as pd
import pytest

from experiments import load_run
from lingshu_jax.diffusion import GeometricSchedule, SamplerConfig


@pytest.fixture(scope="session")
def loaded(runs):
    return load_run("tiny", runs=runs)


@pytest.fixture(scope="session")
def sampler() -> SamplerConfig:
    return SamplerConfig(schedule=GeometricSchedule(steps=2), cells_per_device=8)


@pytest.fixture(scope="session")
def targets(loaded) -> tuple[str, ...]:
    return loaded.plan.vocabulary.perturbation.labels


@pytest.fixture
def asked(targets) -> pd.DataFrame:
    """Three shards of cells."""
    rows = [("line_A", targets[0], 700), ("line_B", "non-targeting", 500)]
    return pd.DataFrame(rows, columns=["cell_line", "target_gene", "n_cells"])
