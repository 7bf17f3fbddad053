"""What an evaluation compares, read once: held-out cells, generated cells of the same composition, training cells."""

import dataclasses
from typing import Any

import numpy as np

from data_pipelines.errors import InputError
from experiments.evaluation.cells import Cells, generated_cells, stored_cells
from experiments.evaluation.labels import Labels, labels_of, matched
from experiments.evaluation.likelihood import TrainingSide
from experiments.evaluation.populations import MOST_CELLS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sides:
    """Real held-out cells, generated cells, and the training cells that baselines are fitted on."""

    store: Any
    split: Any
    statistics: Any
    part: str
    seed: int
    training: TrainingSide
    real: Cells
    """Held-out cells with the composition of `model`."""
    real_labels: Labels
    model: Cells
    model_labels: Labels | None
    generated: Cells
    """All generated cells."""
    generated_labels: Labels | None

    @classmethod
    def read(
        cls,
        store: Any,
        split: Any,
        statistics: Any,
        generated: Any,
        *,
        part: str,
        seed: int,
        training: TrainingSide | None = None,
    ) -> "Sides":
        """Read both sides and choose equally many cells of each condition.

        Args:
            store: the cell store.
            split: a split of it.
            statistics: of that split's training cells.
            generated: AnnData of integer counts; var = the panel in order, obs = the condition fields as text.
            part: the part of the split whose cells count as held out.
            seed: of the choice.
            training: the training cells, where they are read already.

        Raises:
            InputError: the part has no cells, or generated cells do not fit the store.
        """
        cells = check_sides(store, split, statistics, generated, part)
        rng = np.random.default_rng(seed)
        rows = np.asarray(getattr(split, part))
        labels = labels_of(store.obs.iloc[rows], store.columns)
        assert labels is not None  # a store holds its own columns
        generated_labels = labels_of(generated.obs, store.columns)
        mine, theirs = matched(labels, generated_labels, len(cells), MOST_CELLS, rng)
        if not len(mine):
            raise InputError(
                f"no generated cell has a condition that occurs among the {part} cells of split {split.name!r}. "
                f"Sample the conditions of that part: lingshu sample RUN --split {part}"
            )
        return cls(
            store=store,
            split=split,
            statistics=statistics,
            part=part,
            seed=seed,
            training=training or TrainingSide.read(store, split, statistics, seed),
            real=stored_in_order(store, rows[mine], statistics),
            real_labels=labels.take(mine),
            model=cells.take(theirs),
            model_labels=None if generated_labels is None else generated_labels.take(theirs),
            generated=cells,
            generated_labels=generated_labels,
        )


def stored_in_order(store: Any, rows: np.ndarray, statistics: Any) -> Cells:
    """Read in sorted order, as stores like it, and give back in the order asked."""
    order = np.argsort(rows, kind="stable")
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return stored_cells(store, rows[order], statistics.mean).take(back)


def check_sides(store: Any, split: Any, statistics: Any, generated: Any, part: str) -> Cells:
    """The generated cells, if everything belongs together."""
    if part not in ("train", "val", "test") or not len(getattr(split, part)):
        raise InputError(f"split {split.name!r} has no cells in part {part!r}. Evaluate on 'test' or 'val'.")
    if statistics.split_hash != split.hash:
        raise InputError(
            f"the statistics are of split {statistics.split_hash}, not of {split.hash}. Compute them again."
        )
    cells = generated_cells(generated, store.panel.genes)
    if not len(cells):
        raise InputError("there are no generated cells to evaluate. Sample some first.")
    return cells
