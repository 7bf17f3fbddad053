"""What likelihood and sampling ask of a denoiser, and any function of logits made into one."""

# B cells, G genes, V output tokens

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head import invert_cumulative
from lingshu_jax.vocabulary import ConditionVocabulary


class MaskedDenoiser(Protocol):
    """Per-gene token distributions given a partly masked cell; `Denoiser` is one."""

    conditions: ConditionVocabulary

    def token_nll(self, tokens: Any, conditions: Any, targets: Any) -> Float[Array, "B G"]:
        """-log p(target) of every gene, nats."""
        ...

    def reference_nll(self, tokens: Any) -> Float[Array, "B G"]:
        """A fixed -log q(token) of every gene of an unmasked cell, near the model's: the bound's control variate."""
        ...

    def draw_depth(self, tokens: Any, conditions: Any, keys: Any) -> Float[Array, "B"] | None:
        """Each cell's depth, drawn given what is visible at the start; None for a denoiser that knows none."""
        ...

    def draw(
        self, tokens: Any, conditions: Any, uniforms: Any, *, depth: Any, temperature: Any, control: Any, guidance: Any
    ) -> Int[Array, "B G"]:
        """A token for every gene, from one uniform per gene, at the depth that was drawn for the cell."""
        ...


@dataclasses.dataclass(frozen=True)
class LogitDenoiser:
    """A denoiser from a function `(tokens (B, G), conditions) -> logits (B, G, V)`: an oracle, or one of your own."""

    logits: Callable[[Any, Any], Float[Array, "B G V"]]
    conditions: ConditionVocabulary = ConditionVocabulary()

    def token_nll(self, tokens: Any, conditions: Any, targets: Any) -> Float[Array, "B G"]:
        log_p = jax.nn.log_softmax(self.logits(tokens, conditions).astype(jnp.float32), axis=-1)
        index = jnp.minimum(targets, log_p.shape[-1] - 1).astype(jnp.int32)
        return -jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]

    def reference_nll(self, tokens: Any) -> Float[Array, "B G"]:
        return jnp.zeros(tokens.shape, jnp.float32)

    def draw_depth(self, tokens: Any, conditions: Any, keys: Any) -> None:
        return None

    def draw(
        self, tokens: Any, conditions: Any, uniforms: Any, *, depth: Any, temperature: Any, control: Any, guidance: Any
    ) -> Int[Array, "B G"]:
        logits = self.logits(tokens, conditions).astype(jnp.float32)
        if control is not None:
            away_from = self.logits(tokens, control).astype(jnp.float32)
            logits = away_from + (guidance + 1.0) * (logits - away_from)
        return invert_cumulative(logits / temperature, uniforms)


@dataclasses.dataclass(frozen=True)
class Compilable:
    """A denoiser taken apart for `jax.jit`: a hashable structure and a tree of arrays."""

    structure: Any
    arrays: Any

    @classmethod
    def of(cls, model: Any) -> "Compilable":
        """Take apart a module, a denoiser of one's own, or a bare function of logits."""
        if isinstance(model, nnx.Module):
            graph, state = nnx.split(model)
            return cls(_Module(graph), state)
        return cls(_Plain(model if hasattr(model, "token_nll") else LogitDenoiser(model)), ())


@dataclasses.dataclass(frozen=True)
class _Module:
    graph: Any

    def merge(self, arrays: Any) -> Any:
        return nnx.merge(self.graph, arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plain:
    denoiser: Any

    def merge(self, arrays: Any) -> Any:
        return self.denoiser


def rows_of(conditions: Mapping[str, Any]) -> int | None:
    """Number of cells that the conditions describe; None when there are no condition fields."""
    sizes = {len(rows) for rows in conditions.values()}
    if len(sizes) > 1:
        raise ValueError(f"condition fields must have one length, got {sorted(sizes)}.")
    return sizes.pop() if sizes else None
