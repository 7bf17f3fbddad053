"""Tables of several sources one below the other, and what of them a store can keep: values stay what they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def joined(tables: "Sequence[Any]") -> Any:
    """Tables (pandas) one below the other. A column that some of them lack is missing there, and exact elsewhere."""
    import pandas

    if len(tables) == 1:
        return tables[0].copy()
    everywhere = set.intersection(*(set(table.columns) for table in tables))
    return pandas.concat(
        [with_room_for_missing(_plain(table), [n for n in table.columns if n not in everywhere]) for table in tables]
    )


def with_room_for_missing(table: Any, names: Sequence[str]) -> Any:
    """Whole numbers and truth values of some columns in types that have a missing value: as floats they lose digits."""
    return table.astype({name: table[name].convert_dtypes().dtype for name in names if table[name].dtype.kind in "iub"})


def storable(values: Any) -> Any:
    """A column as AnnData writes it: text, and what is of several kinds, as categories of text."""
    import pandas

    if values.dtype != object and not pandas.api.types.is_string_dtype(values.dtype):
        return values
    # Categories are small on disk, and keep missing values.
    there = values[~values.isna()]
    if len(there) and pandas.api.types.infer_dtype(there) in ("integer", "floating", "boolean"):
        return pandas.Categorical(values, categories=pandas.Index(np.unique(there.to_numpy()).tolist()))
    return pandas.Categorical(values.where(values.isna(), values.astype(str)).to_numpy(dtype=object))


def _plain(table: Any) -> Any:
    """Categories as plain values: files rarely agree on a column's categories."""
    import pandas

    dtypes = {name: table[name].dtype for name in table.columns}
    categorical = [name for name, dtype in dtypes.items() if isinstance(dtype, pandas.CategoricalDtype)]
    return table.astype(dict.fromkeys(categorical, object))
