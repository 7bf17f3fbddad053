"""What the backward pass keeps of the blocks: one rematerialisation policy per setting."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from lingshu_jax.model.config import KeepAll, KeepInputs, KeepProducts


@functools.singledispatch
def with_remat(config: Any, block: Callable[..., Any]) -> Callable[..., Any]:
    """The block as a scan runs it, under a `Remat` setting."""
    raise TypeError(f"no rematerialisation for {type(config).__name__}.")


@with_remat.register
def _(config: KeepAll, block: Callable[..., Any]) -> Callable[..., Any]:
    return block


@with_remat.register
def _(config: KeepProducts, block: Callable[..., Any]) -> Callable[..., Any]:
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(block, policy=policy, prevent_cse=False)


@with_remat.register
def _(config: KeepInputs, block: Callable[..., Any]) -> Callable[..., Any]:
    return jax.checkpoint(block, prevent_cse=False)
