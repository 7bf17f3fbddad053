"""Fine-tuning: a model takes over the weights of another one with a different panel and different labels."""

# P patches, S genes per patch

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EFFECTS = ("mean_effects", "spread_effects")
"""Fixed arrays with one entry per row of a condition field."""
RATES = "start.label_rates."
TABLES = f"{RATES}tables."


def take_over(fresh: Any, parent: Any) -> Any:
    """The parent's parameters in the shape of fresh ones: what it has not is fresh.

    Patches and rows of labels that the parent has are its own, since known genes keep their slot and known labels their
    row; further ones, and fields that it has not, stay fresh. Both trees are parameters under the names they have in a
    `Denoiser`.
    """
    known = dict(_leaves(parent))

    def take(path: Any, leaf: Any) -> Any:
        old = known.get(parameter_name(path))
        if old is None:
            return leaf
        return old if old.shape == leaf.shape else jnp.asarray(leaf).at[: old.shape[0]].set(old)

    return jax.tree_util.tree_map_with_path(take, fresh)


def take_over_fixed(fresh: Any, parent: Any, kept: np.ndarray) -> Any:
    """Fixed arrays of a start: the parent's for genes it knows, on the host.

    Args:
        fresh: of the new panel, labels and statistics.
        parent: of the parent.
        kept: bool (P, S) of the new layout: slots whose gene the parent knows.
    """
    known = {name: np.asarray(value) for name, value in _leaves(parent)}
    # Tables of rates mean something with their basis alone: all are the parent's, or none.
    if not any(TABLES in name and name in known for name, _ in _leaves(fresh)):
        known = {name: value for name, value in known.items() if RATES not in name}

    def take(path: Any, leaf: Any) -> Any:
        name, value = parameter_name(path), np.array(leaf)
        old = known.get(name)
        if old is None or name in ("place", "gene_at", "target_features"):
            return value
        if value.ndim == 0:
            return old
        if TABLES in name or set(name.split(".")) & set(EFFECTS):
            value[tuple(slice(length) for length in old.shape)] = old
        elif name == "start.table":  # (S, P, V)
            by_slot = kept.T[:, : old.shape[1]]
            value[:, : old.shape[1]][by_slot] = old[by_slot]
        else:
            by_patch = kept[: len(old)]
            value[: len(old)][by_patch] = old[by_patch]
        return value

    return jax.tree_util.tree_map_with_path(take, fresh)


def parameter_names(params: Any) -> list[str]:
    """Dotted names of the parameters, as `blocks.qkv`."""
    return [name for name, _ in _leaves(params)]


def frozen_mask(params: Any, patterns: tuple[str, ...]) -> Any:
    """Tree of bools: which parameters a pattern names: a part ('blocks'), a parameter, or a regular expression."""
    return jax.tree_util.tree_map_with_path(lambda path, _: is_frozen(parameter_name(path), patterns), params)


def is_frozen(name: str, patterns: tuple[str, ...]) -> bool:
    """Does a pattern name this parameter, or a part that it belongs to?"""
    return any(name.startswith(f"{pattern}.") or re.fullmatch(pattern, name) for pattern in patterns)


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(parameter_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def parameter_name(path: Any) -> str:
    """Dotted name of a leaf of the parameters, as `blocks.qkv`."""
    return ".".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
