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
    rules: dict[str | None, str | None] = {None: None, **dict(PARAMETER_RULES)}

    def of(variable: Any) -> Any:
        if not isinstance(variable, nnx.Variable):
            return NamedSharding(mesh, P())
        value = variable.get_raw_value()
        axes = variable.get_metadata().get("axes") or (None,) * len(value.shape)
        names = [rules.get(axis) for axis in axes]
        sizes = zip(names, value.shape, strict=True)
        kept = [name if name is not None and size % mesh.shape[name] == 0 else None for name, size in sizes]
        return variable.replace(NamedSharding(mesh, P(*kept)))

    return jax.tree.map(of, tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
