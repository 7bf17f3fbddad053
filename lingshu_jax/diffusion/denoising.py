"""What likelihood and sampling ask of a denoiser, and any function of logits made into one."""

# B cells, G genes, V output tokens

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lingshu_jax.kernels.gene_head import draw_token, guided_logits
from lingshu_jax.vocabulary import ConditionVocabulary


class ReverseProcess(Protocol):
    """A denoiser while cells are drawn. What it carries along is its own; genes are listed by panel index, G = none."""

    starts_alike: bool
    """The first prediction depends on the start tokens and the conditions alone, not on the cell's key."""

    def prepare(self) -> Any:
        """What all steps of all cells share: made once."""
        ...

    def begin(self, shared: Any, tokens: Any, conditions: Any, keys: Any) -> Any:
        """Cells before the first step, from their start tokens (B, G)."""
        ...

    def predict(self, shared: Any, cells: Any, conditions: Any, away_from: Any) -> Any:
        """What the logits of masked genes are made of; with `away_from`, other conditions to be guided away from."""
        ...

    def draw(
        self, shared: Any, prediction: Any, genes: Any, uniforms: Any, **settings: Any
    ) -> tuple[Int[Array, "B C"], Float[Array, "B C"]]:
        """A token for every listed gene, and its log-probability; settings as `draw_listed` takes them."""
        ...

    def write(self, shared: Any, cells: Any, genes: Any, tokens: Any) -> Any:
        """The cells with the listed genes revealed."""
        ...

    def end(self, cells: Any) -> Int[Array, "B G"]:
        """The tokens of the cells."""
        ...


class MaskedDenoiser(Protocol):
    """Per-gene token distributions given a partly masked cell; `Denoiser` is one."""

    conditions: ConditionVocabulary

    def token_nll(self, tokens: Any, conditions: Any, targets: Any) -> Float[Array, "B G"]:
        """-log p(target) of every gene, nats."""
        ...

    def reference_nll(self, tokens: Any) -> Float[Array, "B G"]:
        """A fixed -log q(token) of every gene of an unmasked cell, near the model's: the bound's control variate."""
        ...

    @property
    def reverse(self) -> ReverseProcess:
        """The denoiser in the reverse process."""
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

    @property
    def reverse(self) -> "LogitReverse":
        return LogitReverse(self)


@dataclasses.dataclass(frozen=True)
class LogitReverse:
    """A `LogitDenoiser` while cells are drawn: it carries their tokens, and predicts all logits."""

    denoiser: LogitDenoiser
    starts_alike: bool = True

    def prepare(self) -> Any:
        return ()

    def begin(self, shared: Any, tokens: Any, conditions: Any, keys: Any) -> Any:
        return tokens

    def predict(self, shared: Any, cells: Any, conditions: Any, away_from: Any) -> Any:
        asked = [conditions] if away_from is None else [conditions, away_from]
        return [self.denoiser.logits(cells, labels).astype(jnp.float32) for labels in asked]

    def draw(
        self, shared: Any, prediction: Any, genes: Any, uniforms: Any, *, guidance: Any, mixed: Any, **settings: Any
    ) -> tuple[Int[Array, "B C"], Float[Array, "B C"]]:
        logits = prediction[0]
        if len(prediction) == 2:
            logits = guided_logits(prediction[0], prediction[1], guidance, mixed)
        listed = jnp.take_along_axis(logits, genes[..., None], axis=1, mode="clip")
        tokens = draw_token(listed, uniforms, **settings)
        hit = jnp.take_along_axis(jax.nn.log_softmax(listed, axis=-1), tokens[..., None], axis=-1)
        return tokens, hit[..., 0]

    def write(self, shared: Any, cells: Any, genes: Any, tokens: Any) -> Any:
        return cells.at[jnp.arange(len(cells))[:, None], genes].set(tokens.astype(cells.dtype), mode="drop")

    def end(self, cells: Any) -> Int[Array, "B G"]:
        return cells


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

    def merge(self) -> Any:
        """The denoiser again."""
        return self.structure.merge(self.arrays)


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
