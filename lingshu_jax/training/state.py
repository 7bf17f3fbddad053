"""Everything that a training step changes, and how it is made directly in its shards."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh

from lingshu_jax.model.parameters import Fixed
from lingshu_jax.parallel.mesh import replicated
from lingshu_jax.parallel.rules import shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """Parameters, their moving average and the optimizer's state before step `step`; arrays, or what describes them."""

    step: Any
    """int32 (): batches seen, those of skipped steps among them."""
    skipped: Any
    """int32 (): steps so far that nothing was learned from, since their loss or gradients were not finite."""
    skipped_in_a_row: Any
    """int32 (): how many of them were the last ones."""
    params: Any
    """float32, whatever type the forward pass computes with."""
    ema: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class ModelParts:
    """A denoiser taken apart: its structure, and the arrays that are saved with it but never trained."""

    graph: Any
    fixed: Any

    def merge(self, params: Any) -> Any:
        """The denoiser with these parameters."""
        return nnx.merge(self.graph, params, self.fixed)


def model_parts(build: Callable[[], nnx.Module], fixed_values: nnx.Module, mesh: Mesh) -> ModelParts:
    """Structure of the denoiser that `build` makes, with fixed arrays taken from `fixed_values`, on every device."""
    graph = nnx.graphdef(nnx.eval_shape(build))
    return ModelParts(graph, jax.device_put(nnx.state(fixed_values, Fixed), replicated(mesh)))


def abstract_state(
    build: Callable[[], nnx.Module], tx: optax.GradientTransformation, mesh: Mesh | AbstractMesh
) -> TrainState:
    """Shapes, types and shardings of the state, without making any array. Source to restore a checkpoint into."""
    return _with_shardings(jax.eval_shape(functools.partial(_init, build, tx)), mesh)


def abstract_params(build: Callable[[], nnx.Module], mesh: Mesh) -> Any:
    """Shapes, types and shardings of the parameters alone: what the averaged weights are restored into."""
    return _with_shardings(jax.eval_shape(lambda: nnx.state(build(), nnx.Param)), mesh)


def init_state(build: Callable[[], nnx.Module], tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """A fresh state, every array made in its own shards."""
    return fresh_state(build, tx, mesh, lambda params: params)


def fresh_state(
    build: Callable[[], nnx.Module], tx: optax.GradientTransformation, mesh: Mesh, begin: Callable[[Any], Any]
) -> TrainState:
    """A state before step 0 whose parameters are `begin(random ones)`, every array made in its own shards."""
    out = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(build, tx, mesh))
    return jax.jit(functools.partial(_init, build, tx, begin), out_shardings=out)()


def _init(
    build: Callable[[], nnx.Module],
    tx: optax.GradientTransformation,
    begin: Callable[[Any], Any] = lambda params: params,
) -> TrainState:
    params = begin(nnx.state(build(), nnx.Param))
    # The average must not share buffers with the parameters: both are donated to every step.
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        params=params,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=tx.init(params),
    )


def _with_shardings(shapes: Any, mesh: Mesh | AbstractMesh) -> Any:
    return jax.tree.map(
        lambda shape, sharding: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding),
        shapes,
        shardings(shapes, mesh),
    )
