"""What a run would be, before any array is made: its mesh, its state in shards, the cells it is shown."""

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, AxisType

from data_pipelines import CellStore
from data_pipelines.errors import InputError
from experiments.assembly import optimizer_of, select_fields
from experiments.experiment import Experiment
from experiments.flops import StepFlops, step_flops
from experiments.hardware import Hardware
from lingshu_jax.model.compression import GeneLayout
from lingshu_jax.model.denoiser import Denoiser, FixedArrays
from lingshu_jax.model.parameters import Fixed
from lingshu_jax.parallel.choice import Demands, choose_mesh
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.parallel.mesh import AXES
from lingshu_jax.training.state import TrainState, abstract_state
from lingshu_jax.vocabulary import ConditionField, ConditionVocabulary, LibrarySizeField, NumberField

VOCABULARY = ConditionVocabulary(
    (
        ConditionField(name="context", labels=tuple(f"context-{i}" for i in range(10))),
        ConditionField(
            name="target",
            kind="perturbation",
            labels=tuple(f"target-{i}" for i in range(2000)),
            controls=("non-targeting",),
        ),
        LibrarySizeField(),
    )
)
"""Where there is no store yet: two condition tokens, as in the paper's genetic screens; the library size if asked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """What a model is shown: panel, room for expressed genes, measured genes and labels."""

    genes: int = 18_080
    capacity: int = 6_000
    """Most expressed genes of any cell."""
    masks: int = 1
    """Distinct sets of measured genes among the sources."""
    vocabulary: ConditionVocabulary = VOCABULARY

    @classmethod
    def of(cls, store: CellStore) -> "Cells":
        """Those of a store; every label counts, whether its split trains on it or not."""
        columns, fields = store.columns, []
        for name in columns.fields:
            labels = tuple(sorted(set(store.obs[name].astype(str)) - set(columns.control)))
            if name == columns.perturbation:
                fields.append(
                    ConditionField(name=name, kind="perturbation", labels=labels, controls=tuple(columns.control))
                )
            else:
                fields.append(ConditionField(name=name, labels=labels))
        fields += [*(NumberField(name=name) for name in columns.numbers), LibrarySizeField()]
        return cls(
            genes=store.n_genes,
            capacity=store.capacity,
            masks=len(np.unique(store.measured, axis=0)),
            vocabulary=ConditionVocabulary(tuple(fields)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Blueprint:
    """An experiment on some cells, as far as shapes tell."""

    experiment: Experiment
    cells: Cells
    batch_size: int | None = None
    """Cells of a step, where they are not the experiment's."""
    inherited: tuple[GeneLayout, ConditionVocabulary] | None = None
    """Places of genes and rows of labels of a model that takes another one's weights over."""

    @property
    def batch(self) -> int:
        """Cells of a global step."""
        return self.batch_size or self.experiment.training.batch_size

    @functools.cached_property
    def vocabulary(self) -> ConditionVocabulary:
        """The condition fields that the experiment uses."""
        return self.inherited[1] if self.inherited else select_fields(self.cells.vocabulary, self.experiment.data)

    @functools.cached_property
    def layout(self) -> GeneLayout:
        if self.inherited:
            return self.inherited[0]
        return GeneLayout.random(self.cells.genes, self.experiment.model.genes_per_patch, seed=self.experiment.seed)

    def build(self) -> Denoiser:
        """The model; call it under `jax.eval_shape`."""
        return Denoiser(self.experiment.model, self.layout, self.vocabulary, rngs=nnx.Rngs(params=self.experiment.seed))

    @functools.cached_property
    def parameters(self) -> Any:
        """Abstract parameters."""
        return jax.eval_shape(lambda: nnx.state(self.build(), nnx.Param))

    @functools.cached_property
    def fixed(self) -> Any:
        """Abstract fixed arrays."""
        return jax.eval_shape(
            lambda: nnx.state(FixedArrays(self.experiment.model, self.layout, self.vocabulary, None), Fixed)
        )

    @functools.cached_property
    def weights(self) -> dict[str, int]:
        """Number of weights by part of the denoiser."""
        return {
            name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(part)) for name, part in self.parameters.items()
        }

    def state(self, mesh: jax.sharding.Mesh | AbstractMesh) -> TrainState:
        """Abstract training state with the shardings it has on a mesh."""
        return abstract_state(self.build, optimizer_of(self.experiment, self.vocabulary), mesh)

    def flops(self, hardware: Hardware) -> StepFlops:
        """Of one global step."""
        return step_flops(
            self.experiment.model,
            genes=self.cells.genes,
            cells=self.batch,
            conditions=len(self.vocabulary.fields),
            one_hot=hardware.platform == "tpu",
        )

    def mesh(self, hardware: Hardware) -> MeshConfig:
        """The mesh that the run would have: as it is set, and chosen where it is not.

        Raises:
            InputError: it is impossible; names the nearest that is not.
        """
        model = self.experiment.model
        demands = Demands(
            batch_size=self.batch,
            microbatches=self.experiment.training.microbatches,
            heads=model.heads,
            width=model.width,
            ffn_width=model.ffn_width,
            weights=sum(self.weights.values()),
            device_bytes=hardware.memory_bytes,
        )
        try:
            return choose_mesh(self.experiment.mesh, demands, hardware.devices)
        except ValueError as error:
            raise InputError(str(error)) from error


def abstract_mesh(config: MeshConfig) -> AbstractMesh:
    """A settled mesh without its devices."""
    sizes = tuple(size or 1 for size in config.sizes)
    return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def bytes_on_device(tree: Any) -> int:
    """Of abstract arrays with shardings: what one device holds of them."""
    return sum(leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(tree))


def bytes_of(tree: Any) -> int:
    """Of abstract arrays on every device whole."""
    return sum(leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
