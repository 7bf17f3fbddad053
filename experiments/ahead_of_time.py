"""Training and sampling steps of an experiment, lowered for any mesh without making an array or owning its devices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from experiments.assembly import optimizer_of
from experiments.blueprint import Blueprint
from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.parallel.mesh import batch_sharding, compiled_for, replicated
from lingshu_jax.parallel.rules import shardings
from lingshu_jax.training.step import jit_step

# B cells, G genes, C expressed genes kept per cell


def lower_training_step(blueprint: Blueprint, mesh: Mesh, *, cells: int) -> Any:
    """The whole training step of a global batch of `cells`; `.compile()` it."""
    experiment, shown = blueprint.experiment, blueprint.cells
    tx = optimizer_of(experiment, blueprint.vocabulary)
    state = blueprint.state(mesh)
    step = jit_step(
        nnx.graphdef(nnx.eval_shape(blueprint.build)),
        tx,
        experiment.training,
        seed=experiment.seed,
        mesh=mesh,
        state_shardings=jax.tree.map(lambda leaf: leaf.sharding, state),
    )
    rows, everywhere = batch_sharding(mesh), replicated(mesh)
    batch = abstract_batch(blueprint, cells, rows)
    placed = jax.tree.map(lambda leaf: _like(leaf.shape, leaf.dtype, everywhere), blueprint.fixed)
    return step.lower(state, batch, placed, _like((shown.masks, shown.genes), jnp.bool_, everywhere))


def abstract_batch(blueprint: Blueprint, cells: int, rows: NamedSharding) -> dict[str, Any]:
    """A global batch as the loader gives it, its cells laid out as `rows` says."""
    pairs = (cells, blueprint.cells.capacity)
    return {
        "genes": _like(pairs, jnp.uint16, rows),
        "counts": _like(pairs, jnp.uint16, rows),
        "measured": _like((cells,), jnp.int32, rows),
        "position": _like((cells,), jnp.int32, rows),
        "conditions": abstract_conditions(blueprint, cells, rows),
    }


def abstract_conditions(blueprint: Blueprint, cells: int, rows: NamedSharding) -> dict[str, Any]:
    """Vocabulary rows and numbers of a batch."""
    vocabulary = blueprint.vocabulary
    labels = {field.name: _like((cells,), jnp.int32, rows) for field in vocabulary.labelled}
    return labels | {field.name: _like((cells,), jnp.float32, rows) for field in vocabulary.numbers}


def lower_sampling_step(blueprint: Blueprint, mesh: Mesh, *, cells: int) -> Any:
    """One reverse step of `cells` cells that draws every gene, guided where the experiment is; `.compile()` it."""
    experiment, genes = blueprint.experiment, blueprint.cells.genes
    parts = Compilable.of(nnx.eval_shape(blueprint.build))
    arrays = jax.tree.map(
        lambda leaf, sharding: _like(leaf.shape, leaf.dtype, sharding), parts.arrays, shardings(parts.arrays, mesh)
    )
    rows = batch_sharding(mesh)
    conditions = abstract_conditions(blueprint, cells, rows)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), cells))
    tokens = _like((cells, genes), jnp.int32, rows)
    guided = bool(experiment.sampler.guidance.scale_at(1, experiment.sampler.schedule.steps))

    def one_step(arrays: Any, tokens: Any, conditions: Any, keys: Any, uniforms: Any) -> Any:
        reverse = parts.structure.merge(arrays).reverse
        shared = reverse.prepare()
        state = reverse.begin(shared, tokens, conditions, keys)
        prediction = reverse.predict(shared, state, conditions, conditions if guided else None)
        drawn, _ = reverse.draw(
            shared, prediction, tokens, uniforms, guidance=1.0, mixed=0.0, temperature=1.0, top_p=1.0
        )
        return reverse.end(reverse.write(shared, state, tokens, drawn))

    with compiled_for(mesh):
        uniforms = _like((cells, genes), jnp.float32, rows)
        return jax.jit(one_step).lower(arrays, tokens, conditions, _like(keys.shape, keys.dtype, rows), uniforms)


def _like(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
