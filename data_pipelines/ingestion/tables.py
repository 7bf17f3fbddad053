"""The obs, var and manifest of a cell store, made from those of its sources."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.columns import Columns, check_columns, check_controls, label_text
from data_pipelines.errors import InputError
from data_pipelines.ingestion.sources import Source
from lingshu_jax.vocabulary import GenePanel, content_hash

if TYPE_CHECKING:
    import pandas

FORMAT = 1
"""Version of the store's layout; another one is refused."""
SOURCE_COLUMN = "_source"
INPUT_COLUMN = "_input_index"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What a store is made of. Two stores of one identity hold the same bytes' worth of content."""

    panel: GenePanel
    """The genes, in order."""
    columns: Columns
    """What the obs columns mean."""
    layer: str | None
    """The matrix that was read: None for X."""
    seed: int
    """Of the global shuffle."""
    checksums: tuple[str, ...]
    """Of the files, in input order."""

    @property
    def hash(self) -> str:
        return content_hash(
            {
                "format": FORMAT,
                "panel": self.panel.hash,
                "columns": self.columns.to_json(),
                "layer": self.layer,
                "seed": self.seed,
                "sources": list(self.checksums),
            }
        )


def combined_obs(sources: Sequence[Source], columns: Columns) -> "pandas.DataFrame":
    """The obs of all sources one below the other, in input order, as a store keeps it.

    Condition and batch columns become text categories without missing values; the cell's source and its place in the
    input are added; names are made unique.

    Raises:
        InputError: a named column is missing, or no control label occurs.
    """
    import pandas
    from anndata.utils import make_index_unique

    for source in sources:
        check_columns(columns, source.obs, source.path.name)
    named = [*columns.fields, *filter(None, (columns.batch,))]
    tables = []
    for number, source in enumerate(sources):
        table = source.obs.copy(deep=False)
        for name in named:
            table[name] = label_text(table[name])
        table[SOURCE_COLUMN] = np.int32(number)
        tables.append(table)
    obs: Any = tables[0] if len(tables) == 1 else pandas.concat([_plain(table) for table in tables])
    obs = obs[[name for name in obs.columns if "/" not in str(name)]].copy()  # zarr takes '/' for a folder
    for name in named:
        if name not in obs.columns:
            raise InputError(f"column {name!r} cannot be stored because of its '/'. Rename it in the h5ad file.")
    if columns.perturbation is not None:
        check_controls(columns, set(obs[columns.perturbation]), ", ".join(source.path.name for source in sources))
    obs[INPUT_COLUMN] = np.arange(len(obs), dtype=np.int64)
    for name in obs.columns:
        obs[name] = _storable(obs[name], as_labels=name in named)
    obs.columns = pandas.Index([str(name) for name in obs.columns])
    obs.index = make_index_unique(pandas.Index(obs.index.astype(str), name=None))
    return obs


def store_var(sources: Sequence[Source], panel: GenePanel) -> "pandas.DataFrame":
    """The gene table of the store: of a single source as it is, of several the gene ids alone."""
    import pandas

    if len(sources) > 1:
        return pandas.DataFrame(index=pandas.Index(panel.genes))
    var: Any = sources[0].var()
    var = var[[name for name in var.columns if "/" not in str(name)]].copy()
    for name in var.columns:
        var[name] = _storable(var[name], as_labels=False)
    var.index = pandas.Index(panel.genes)
    return var


def manifest(identity: Identity, sources: Sequence[Source], totals: dict[str, int]) -> dict[str, Any]:
    """What the store says about itself: no time, no host, no path."""
    files = zip(sources, identity.checksums, strict=True)
    return {
        "format": FORMAT,
        "hash": identity.hash,
        "panel_hash": identity.panel.hash,
        "columns": identity.columns.to_json(),
        "layer": identity.layer,
        "seed": identity.seed,
        "sources": [
            {"name": source.path.name, "checksum": checksum, "cells": source.n_cells, "genes": len(source.genes)}
            for source, checksum in files
        ],
        "totals": totals,
    }


def _plain(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Categories as plain values: files rarely agree on a column's categories."""
    import pandas

    dtypes = {name: table[name].dtype for name in table.columns}
    categorical = [name for name, dtype in dtypes.items() if isinstance(dtype, pandas.CategoricalDtype)]
    return table.astype(dict.fromkeys(categorical, object))


def _storable(values: Any, *, as_labels: bool) -> Any:
    import pandas

    if as_labels:
        return values.astype(str).astype("category")
    if values.dtype == object or pandas.api.types.is_string_dtype(values.dtype):
        # Text and mixed columns: categories are small on disk, and keep missing values.
        return values.where(values.isna(), values.astype(str)).astype("category")
    return values
