"""The obs, var and manifest of a cell store, made from those of its sources."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import UNKNOWN, Columns, check_columns, check_controls, label_text, numbers_of
from data_pipelines.errors import InputError
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.joined import joined, storable, with_room_for_missing
from data_pipelines.ingestion.names import fault_of_name, require_name
from data_pipelines.ingestion.panel import Alignment
from data_pipelines.ingestion.screen import Guides
from data_pipelines.ingestion.source import Source
from lingshu_jax.vocabulary import GenePanel, content_hash

if TYPE_CHECKING:
    import pandas

FORMAT = 2
"""Version of the store's layout; another one is refused."""
SOURCE_COLUMN = "_source"
INPUT_COLUMN = "_input_index"
NAME_COLUMN = "_source_name"
"""The cell's name in its source: names in the store are made unique."""
ADDED = (SOURCE_COLUMN, INPUT_COLUMN, NAME_COLUMN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a store is made of. Two stores of one identity hold the same bytes."""

    panel: GenePanel
    """The genes, in order."""
    columns: Columns
    """What the obs columns mean."""
    inputs: tuple[Input, ...]
    """The sources, and how each is read."""
    alignments: tuple[Alignment, ...]
    """Where their genes lie."""
    screen: dict[str, Any]
    """Which cells were left out."""
    seed: int
    """Of the global shuffle."""
    checksums: tuple[str, ...]
    """Of the sources, in input order."""

    @property
    def hash(self) -> str:
        return content_hash(
            {
                "format": FORMAT,
                "panel": self.panel.hash,
                "columns": self.columns.to_json(),
                "inputs": [given.to_json() for given in self.inputs],
                "genes": [content_hash(alignment.positions.tolist()) for alignment in self.alignments],
                "screen": self.screen,
                "seed": self.seed,
                "sources": list(self.checksums),
            }
        )


def combined_obs(sources: Sequence[Source], columns: Columns, guides: Guides | None = None) -> "pandas.DataFrame":
    """The obs of all sources one below the other, in input order, as a store keeps it: values as they are.

    The cell's source, its place in the input and its name there are added; names are made unique. With `guides` the
    perturbation column is made from the guide column.

    Raises:
        InputError: a named column is missing, or no control label occurs.
    """
    import pandas
    from anndata.utils import make_index_unique

    tables = []
    for number, source in enumerate(sources):
        table = source.obs
        if guides is not None:
            table = _with_targets(table, source.name, columns, guides)
        check_columns(columns, table, source.name)
        numbers = {name: numbers_of(table[name], name, source.name) for name in columns.numbers}
        table = table.assign(**numbers)
        table = table[[name for name in table.columns if name not in ADDED]].copy(deep=False)
        table[SOURCE_COLUMN] = np.int32(number)
        tables.append(table)
    obs: Any = joined(tables)
    for name in (*columns.fields, *filter(None, (columns.batch,)), *columns.numbers):
        require_name(name, "--columns")
    obs = obs[[name for name in obs.columns if name in ADDED or fault_of_name(name) is None]].copy()
    if columns.perturbation is not None:
        check_controls(columns, set(label_text(obs[columns.perturbation])), ", ".join(s.name for s in sources))
    obs[INPUT_COLUMN] = np.arange(len(obs), dtype=np.int64)
    obs[NAME_COLUMN] = obs.index.astype(str).to_numpy()
    for name in obs.columns:
        obs[name] = storable(obs[name])
    obs.columns = pandas.Index([str(name) for name in obs.columns])
    obs.index = make_index_unique(pandas.Index(obs.index.astype(str), name=None))
    return obs


def as_labels(obs: "pandas.DataFrame", columns: Columns) -> "pandas.DataFrame":
    """The condition and batch columns of a store's obs as text categories without missing values."""
    obs = obs.copy(deep=False)
    for name in (*columns.fields, *filter(None, (columns.batch,))):
        obs[name] = _categories(label_text(obs[name]))
    return obs


def store_var(sources: Sequence[Source], alignments: Sequence[Alignment], panel: GenePanel) -> "pandas.DataFrame":
    """The gene table of the store: of a single source as it is; of several, each gene's row where it first occurs."""
    import pandas

    tables = []
    for source, alignment in zip(sources, alignments, strict=True):
        table = source.var
        table = table[[name for name in table.columns if fault_of_name(name) is None]]
        kept = np.unique(alignment.positions, return_index=True)[1]
        kept = kept[alignment.positions[kept] >= 0]
        tables.append(table.iloc[kept].set_axis(pandas.Index(alignment.positions[kept]), axis=0))
    var: Any = joined(tables)
    var = var[~var.index.duplicated()]
    if len(var) < len(panel):  # genes of a given panel that no source has
        var = with_room_for_missing(var, list(var.columns))
    var = var.reindex(np.arange(len(panel))).copy()
    for name in var.columns:
        var[name] = storable(var[name])
    var.columns = pandas.Index([str(name) for name in var.columns])
    return var.set_axis(pandas.Index(panel.genes), axis=0)


def manifest(identity: Identity, sources: Sequence[Source], kept: np.ndarray, totals: dict[str, int]) -> dict[str, Any]:
    """What the store says about itself: no time, no host, no path.

    Args:
        identity: what it is made of.
        sources: opened.
        kept: int64 (sources,), cells of each that are in the store.
        totals: of the whole store.
    """
    facts = zip(sources, identity.checksums, identity.alignments, kept, strict=True)
    return {
        "format": FORMAT,
        "hash": identity.hash,
        "panel_hash": identity.panel.hash,
        "columns": identity.columns.to_json(),
        "screen": identity.screen,
        "seed": identity.seed,
        "sources": [
            {
                "name": source.name,
                "checksum": checksum,
                "slot": source.layer or "X",
                "cells": int(cells),
                "cells_left_out": source.n_cells - int(cells),
                **alignment.report(),
            }
            for source, checksum, alignment, cells in facts
        ],
        "totals": totals,
    }


def _with_targets(table: "pandas.DataFrame", name: str, columns: Columns, guides: Guides) -> "pandas.DataFrame":
    """obs with the perturbation column made from the guides."""
    if columns.perturbation is None:
        raise InputError("a guide-to-target map needs --columns.perturbation: the name of the column it makes.")
    if columns.perturbation in table.columns:
        raise InputError(
            f"{name} has a column {columns.perturbation!r} already. Give the targets another --columns.perturbation."
        )
    check_columns(Columns(context=(guides.column,)), table, name)
    labels, place = np.unique(label_text(table[guides.column]).astype(str), return_inverse=True)
    unknown = [label for label in labels if label not in guides.targets and label != UNKNOWN]
    if unknown:
        raise InputError(
            f"{name}: {len(unknown)} of {len(labels)} guides have no target ({', '.join(unknown[:3])}). "
            "Add them to the map; controls map to their control label."
        )
    targets = np.array([guides.targets.get(str(label), UNKNOWN) for label in labels], dtype=object)
    table = table.copy(deep=False)
    table[columns.perturbation] = targets[place]
    return table


def _categories(text: np.ndarray) -> Any:
    import pandas

    return pandas.Categorical(text)
