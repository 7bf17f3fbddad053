"""Which logical axis of a parameter lies on which mesh axis, and the shardings that follow for a tree of variables."""

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

PARAMETER_RULES = (
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("vocab", None),
    ("layers", None),
)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """NamedShardings of a tree of (abstract) variables, by the logical axes that their metadata name.

    An axis that does not divide over its mesh axis stays whole: only width, heads and feed-forward width are sharded.
    """
    rules = dict(PARAMETER_RULES)

    def of(variable: Any) -> Any:
        if not isinstance(variable, nnx.Variable):
            return NamedSharding(mesh, P())
        value = variable.get_raw_value()
        axes = variable.get_metadata().get("axes") or (None,) * len(value.shape)
        names = [rules.get(axis) if axis is not None else None for axis in axes]
        kept = [n if n is not None and size % mesh.shape[n] == 0 else None for n, size in zip(names, value.shape)]
        return variable.replace(NamedSharding(mesh, P(*kept)))

    return jax.tree.map(of, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
