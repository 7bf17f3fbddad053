"""A training run of the tiny model, put together by hand."""

import contextlib
import dataclasses
import functools
import resource

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lingshu_jax.training.step as step_module
from lingshu_jax.model import Denoiser
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import FixedArrays
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import make_mesh, replicated, to_global
from lingshu_jax.training.config import OptimizerConfig, TrainingConfig
from lingshu_jax.training.optimizer import make_optimizer
from lingshu_jax.training.state import abstract_state, init_state, model_parts
from lingshu_jax.training.step import make_step
from tests.lingshu_jax.tiny import CONFIG, GENES, VOCABULARY, conditions, counts, statistics

CELLS = 32
LAYOUT = GeneLayout.random(GENES, CONFIG.genes_per_patch)


def build() -> Denoiser:
    return Denoiser(CONFIG, LAYOUT, VOCABULARY, rngs=nnx.Rngs(params=0))


def batch(seed: int) -> dict:
    x = counts(CELLS, seed)
    genes = np.where(x > 0, np.arange(GENES), GENES)
    return {
        "genes": genes.astype(np.int32),
        "counts": x.astype(np.int32),
        "measured": np.zeros(CELLS, np.int32),
        "position": np.arange(CELLS, dtype=np.int32),
        "conditions": {name: np.asarray(rows) for name, rows in conditions(CELLS).items()},
    }


class Batches:
    """Batch n is made from seed n; the position is n. The loss of bad ones is not a number, if the step is poisoned."""

    def __init__(self, bad=()) -> None:
        self.next, self.bad = 0, bad

    def __next__(self) -> dict:
        self.next += 1
        return (bad_batch if self.next - 1 in self.bad else batch)(self.next - 1)

    def state(self) -> dict:
        return {"next": self.next}


@functools.cache
def setup_on(mesh: MeshConfig = MeshConfig(), devices: int = 8, **training) -> "Setup":  # noqa: B008 (frozen)
    """The run on a mesh, compiled once for all tests."""
    return Setup(mesh, TrainingConfig(ema_decay=0.9, **training), devices)


@dataclasses.dataclass
class Setup:
    """Everything of a run on one mesh."""

    mesh_config: MeshConfig
    config: TrainingConfig
    devices: int = 8

    def __post_init__(self) -> None:
        self.mesh = make_mesh(self.mesh_config, jax.devices()[: self.devices])
        self.tx = make_optimizer(OptimizerConfig(learning_rate=1e-2, warmup_steps=2), 20)
        self.parts = model_parts(build, FixedArrays(CONFIG, LAYOUT, VOCABULARY, statistics()), self.mesh)
        self.abstract = abstract_state(build, self.tx, self.mesh)
        self.step = make_step(
            self.parts,
            self.tx,
            jax.device_put(np.ones((1, GENES), bool), replicated(self.mesh)),
            self.config,
            seed=0,
            mesh=self.mesh,
            state_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.abstract),
        )

    @functools.cached_property
    def _start(self):
        return init_state(build, self.tx, self.mesh)

    def init(self):
        """A fresh state: a copy, since a step takes its state's buffers."""
        return jax.tree.map(jnp.copy, self._start)

    def to_device(self, local):
        return to_global(local, self.mesh)

    def train(self, state, first: int, last: int):
        losses = []
        for n in range(first, last):
            state, metrics = self.step(state, self.to_device(batch(n)))
            losses.append(float(metrics["loss"]))
        return state, losses


def poisoned(setup: Setup, monkeypatch) -> Setup:
    """The setup with a loss that is not a number for cells at negative positions."""
    good = step_module.training_loss

    def loss(model, tokens, conditions, position, *rest):
        return good(model, tokens, conditions, position, *rest) * jnp.where((position < 0).any(), jnp.nan, 1.0)

    monkeypatch.setattr(step_module, "training_loss", loss)
    return Setup(setup.mesh_config, setup.config)


def bad_batch(n: int) -> dict:
    return {**batch(n), "position": np.arange(CELLS, dtype=np.int32) - 1}


def limit_files(size: int) -> None:
    """No file can grow beyond so many bytes (-1: any size): the nearest to a full disk that needs no disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextlib.contextmanager
def full_disk():
    limit_files(2048)
    try:
        yield
    finally:
        limit_files(-1)
