"""Training and sampling steps of an experiment, lowered for any mesh without making an array or owning its devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from experiments.experiment import Experiment
from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.diffusion.sampler import reveal
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import Denoiser, FixedArrays
from lingshu_jax.model.parameters import Fixed
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, replicated
from lingshu_jax.parallel.rules import shardings
from lingshu_jax.training.optimizer import make_optimizer
from lingshu_jax.training.state import abstract_state
from lingshu_jax.training.step import jit_step
from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary

# B cells, G genes, C expressed genes kept per cell

VOCABULARY = ConditionVocabulary(
    (
        ConditionField(name="context", labels=tuple(f"context-{i}" for i in range(10))),
        ConditionField(
            name="target",
            kind="perturbation",
            labels=tuple(f"target-{i}" for i in range(2000)),
            controls=("non-targeting",),
        ),
    )
)
"""Two condition tokens, as in the paper's genetic screens."""
MEASURED_MASKS = 1


def _build(experiment: Experiment, genes: int) -> Any:
    layout = GeneLayout.random(genes, experiment.model.genes_per_patch, seed=experiment.seed)
    return functools.partial(_denoiser, experiment, layout), layout


def _denoiser(experiment: Experiment, layout: GeneLayout) -> Denoiser:
    return Denoiser(experiment.model, layout, VOCABULARY, rngs=nnx.Rngs(params=experiment.seed))


def lower_training_step(experiment: Experiment, mesh: Mesh, *, cells: int, genes: int, capacity: int) -> Any:
    """The whole training step of a global batch of `cells`, with at most `capacity` expressed genes each; `.compile()`
    it."""
    build, layout = _build(experiment, genes)
    tx = make_optimizer(experiment.optimizer, experiment.training.steps)
    state = abstract_state(build, tx, mesh)
    fixed = jax.eval_shape(lambda: nnx.state(FixedArrays(experiment.model, layout, VOCABULARY, None), Fixed))
    step = jit_step(
        nnx.graphdef(nnx.eval_shape(build)),
        tx,
        experiment.training,
        seed=experiment.seed,
        mesh=mesh,
        state_shardings=jax.tree.map(lambda leaf: leaf.sharding, state),
    )
    rows, everywhere = batch_sharding(mesh), replicated(mesh)
    batch = {
        "genes": _like((cells, capacity), jnp.uint16, rows),
        "counts": _like((cells, capacity), jnp.uint16, rows),
        "measured": _like((cells,), jnp.int32, rows),
        "position": _like((cells,), jnp.int32, rows),
        "conditions": {field.name: _like((cells,), jnp.int32, rows) for field in VOCABULARY.fields},
    }
    placed = jax.tree.map(lambda leaf: _like(leaf.shape, leaf.dtype, everywhere), fixed)
    return step.lower(state, batch, placed, _like((MEASURED_MASKS, genes), jnp.bool_, everywhere))


def lower_sampling_step(experiment: Experiment, mesh: Mesh, *, cells: int, genes: int) -> Any:
    """One reverse step of `cells` cells, guided where the experiment is; `.compile()` it."""
    build, _ = _build(experiment, genes)
    parts = Compilable.of(nnx.eval_shape(build))
    arrays = jax.tree.map(
        lambda leaf, sharding: _like(leaf.shape, leaf.dtype, sharding), parts.arrays, shardings(parts.arrays, mesh)
    )
    rows, everywhere = batch_sharding(mesh), replicated(mesh)
    conditions = {field.name: _like((cells,), jnp.int32, rows) for field in VOCABULARY.fields}
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), cells))
    tokens = _like((cells, genes), jnp.int32, rows)
    number = _like((), jnp.float32, everywhere)
    guided = bool(experiment.sampler.guidance.scale_at(1))
    depth = None if type(experiment.model.start).__name__ != "DepthNB" else _like((cells,), jnp.float32, rows)
    with compiled_for(mesh):
        return reveal.lower(
            parts.structure,
            arrays,
            tokens,
            tokens,
            _like((cells,), jnp.int32, rows),
            conditions,
            conditions if guided else None,
            depth,
            _like(keys.shape, keys.dtype, rows),
            _like((), jnp.int32, everywhere),
            number,
            number,
        )


def _like(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
