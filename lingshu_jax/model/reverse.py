"""The denoiser in the reverse process: what is computed once, what is carried from step to step, and draws."""

# B cells, G genes, P patches, S genes per patch, C listed genes of a cell, D width

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from lingshu_jax.kernels.gene_head import GeneHead, draw_listed, patch_inputs, revealed_inputs
from lingshu_jax.model.compression import places_of, to_panel
from lingshu_jax.model.conditions import Conditions
from lingshu_jax.vocabulary import PAD_ROW

if TYPE_CHECKING:
    from lingshu_jax.model.denoiser import Denoiser


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawing:
    """Cells that are being drawn."""

    tokens: Int[Array, "B P S"]
    inputs: Float[Array, "B P D"]
    """fp32 patch inputs of the tokens, kept up to date instead of summed anew in every step."""
    depth: Float[Array, "B"] | None
    """Drawn once, given what is visible at the start: estimated anew from the genes drawn so far, small errors of the
    rates would add up over the steps."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """What every gene's logits are made of, but for the slot matrices."""

    states: Float[Array, "B P D"]
    tilt: Float[Array, "B P S"] | None


@dataclasses.dataclass(frozen=True)
class DenoiserReverse:
    """A `Denoiser` as the sampler uses it; see `diffusion.denoising.ReverseProcess`."""

    model: "Denoiser"

    @property
    def starts_alike(self) -> bool:
        """A start that knows depth draws one per cell."""
        return not self.model.has_summary

    def prepare(self) -> Any:
        return {"table": self.model.table(), "matrix": self.model.matrix()}

    def begin(self, shared: Any, tokens: Int[Array, "B G"], conditions: Conditions, keys: Key[Array, "B"]) -> Drawing:
        patches = self.model.patches(tokens)
        depth = self.model.start.depth(patches, conditions, keys)
        return Drawing(patches, patch_inputs(patches, shared["table"]), depth)

    def predict(
        self, shared: Any, cells: Drawing, conditions: Conditions, away_from: Conditions | None
    ) -> list[Prediction]:
        """One forward pass; with guidance both branches go through it in one batch, side by side."""
        tokens, inputs, depth = cells.tokens, cells.inputs, cells.depth
        if away_from is not None:
            tokens, inputs, depth = jax.tree.map(lambda x: _beside(x, x), (tokens, inputs, depth))
            conditions = {name: _beside_rows(rows, away_from[name]) for name, rows in conditions.items()}
        states, tilt = self.model.transform(inputs.astype(shared["table"].dtype), tokens, conditions, depth=depth)
        if away_from is None:
            return [Prediction(states, tilt)]
        return [jax.tree.map(lambda x, i=i: x[i::2], Prediction(states, tilt)) for i in range(2)]

    def draw(
        self, shared: Any, prediction: list[Prediction], genes: Int[Array, "B C"], uniforms: Any, **settings: Any
    ) -> tuple[Int[Array, "B C"], Float[Array, "B C"]]:
        base = self.model.start.base()
        heads = [GeneHead(branch.states, shared["matrix"], base, branch.tilt) for branch in prediction]
        away_from = heads[1] if len(heads) == 2 else None
        return draw_listed(heads[0], self._places(genes), uniforms, away_from=away_from, **settings)

    def write(self, shared: Any, cells: Drawing, genes: Int[Array, "B C"], tokens: Int[Array, "B C"]) -> Drawing:
        place = self._places(genes)
        flat = cells.tokens.reshape(len(tokens), -1)
        flat = flat.at[jnp.arange(len(tokens))[:, None], place].set(tokens.astype(flat.dtype), mode="drop")
        inputs = revealed_inputs(cells.inputs, shared["table"], place, tokens)
        return Drawing(flat.reshape(cells.tokens.shape), inputs, cells.depth)

    def end(self, cells: Drawing) -> Int[Array, "B G"]:
        return to_panel(cells.tokens, self.model.place[...])

    def _places(self, genes: Int[Array, "B C"]) -> Int[Array, "B C"]:
        return places_of(genes, self.model.place[...], self.model.gene_at.size)


def _beside(x: Array, y: Array) -> Array:
    """Rows of two arrays in turn: a device keeps the rows that it has."""
    return jnp.stack([x, y], axis=1).reshape(-1, *x.shape[1:])


def _beside_rows(x: Array, y: Array) -> Array:
    """The same of condition rows, of which one may be sets."""
    if x.ndim == 2 and y.ndim == 1:
        y = jnp.pad(y[:, None], ((0, 0), (0, x.shape[1] - 1)), constant_values=PAD_ROW)
    return _beside(x, y)
