"""Which logical axis lies on which mesh axis: at rest (ZeRO-3: parameters in shards), and while a step computes."""

import functools
import math
from collections.abc import Mapping
from typing import Any, cast

import jax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str | None, MeshAxes]
Axes = tuple[str | None, ...]

PARAMETER_RULES: Rules = {
    None: None,
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": None,
    "layers": None,
}
"""Parameters, their average and the optimizer's moments, between steps: width in shards over fsdp."""
COMPUTE_RULES: Rules = {
    None: None,
    "cells": ("data", "fsdp"),
    "positions": "tensor",
    "embed": None,
    "heads": "tensor",
    "mlp": "tensor",
}
"""Weights and activations while a block computes: width whole, and outside attention positions over tensor."""


def shardings(tree: Any, mesh: Mesh | AbstractMesh) -> Any:
    """NamedShardings of a tree of (abstract) variables, by the logical axes that their metadata name.

    An axis that does not divide over its mesh axis stays whole: only width, heads and feed-forward width are sharded.
    """

    def of(variable: Any) -> Any:
        if not isinstance(variable, nnx.Variable):
            return NamedSharding(mesh, P())
        shape = variable.get_raw_value().shape
        axes = variable.get_metadata().get("axes") or (None,) * len(shape)
        return variable.replace(NamedSharding(mesh, _spec(PARAMETER_RULES, axes, shape, mesh)))

    return jax.tree.map(of, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def gathered(weight: Array, axes: Axes) -> Array:
    """A weight as a step computes with it, collected from its shards; its gradient goes back into them.

    Cast before: what is sent then has the compute type. Without a mesh in context the weight itself.
    """
    return cast(Array, _gathered(axes, weight))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(axes: Axes, weight: Array) -> Array:
    return _constrain(weight, COMPUTE_RULES, axes)


_gathered.defvjp(
    lambda axes, weight: (_constrain(weight, COMPUTE_RULES, axes), None),
    lambda axes, _, gradient: (_constrain(gradient, PARAMETER_RULES, axes),),
)


def spread(activation: Array, axes: Axes) -> Array:
    """An activation laid over the mesh in context by its logical axes; itself without one."""
    return _constrain(activation, COMPUTE_RULES, axes)


def _constrain(array: Array, rules: Rules, axes: Axes) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return array
    return jax.lax.with_sharding_constraint(array, _spec(rules, axes, array.shape, mesh))


def _spec(rules: Rules, axes: Axes, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> P:
    def fits(names: MeshAxes, size: int) -> bool:
        there = (names,) if isinstance(names, str) else names or ()
        # A mesh of one's own may have other axes.
        return all(name in mesh.shape for name in there) and size % math.prod(mesh.shape[name] for name in there) == 0

    named = [rules[axis] for axis in axes]
    return P(*(names if fits(names, size) else None for names, size in zip(named, shape, strict=True)))
