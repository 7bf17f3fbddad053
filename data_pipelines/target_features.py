"""Features of perturbations' targets: from a file of one's own, or from genes' co-expression in training controls."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.derived import coexpression_features, detected_in_controls
from data_pipelines.errors import InputError
from data_pipelines.npz import read_npz
from data_pipelines.progress import Progress, silent
from data_pipelines.splits import Split

if TYPE_CHECKING:
    from data_pipelines.store import CellStore

# T targets, K features

COEXPRESSION = "coexpression"
FEWEST_DETECTED = 0.01
"""Share of the training controls that must express a gene for its co-expression to say something."""


@dataclasses.dataclass(frozen=True, eq=False)
class TargetTable:
    """Features of targets; every feature has mean 0 and variance 1 over them."""

    labels: tuple[str, ...]
    values: np.ndarray
    """float32 (T, K)."""

    def of(self, labels: tuple[str, ...]) -> np.ndarray:
        """Features of these targets, float32 (n, K); 0 for one that has none."""
        place = {label: i for i, label in enumerate(self.labels)}
        found = np.zeros((len(labels), self.values.shape[1]), np.float32)
        for i, label in enumerate(labels):
            if label in place:
                found[i] = self.values[place[label]]
        return found


def load_targets(
    source: str, size: int, store: "CellStore", split: Split, *, progress: Progress = silent
) -> TargetTable:
    """The features that a setting names.

    Args:
        source: `coexpression`, or an .npz (arrays `labels` and `features`) or .parquet file (a column or index of
            labels, other columns numbers).
        size: components of the co-expression.
        store: where training controls are.
        split: of the store.
        progress: told of passes over the controls.

    Raises:
        InputError: the file is missing or no such table.
    """
    if source == COEXPRESSION:
        values = coexpression_features(store, split, components=size, progress=progress)
        kept = np.flatnonzero(detected_in_controls(store, split, progress=progress) >= FEWEST_DETECTED)
        labels = tuple(store.panel.genes[gene] for gene in kept)
        return _standardised(labels, values[kept], source)
    return read_targets(source)


def read_targets(source: str) -> TargetTable:
    """The features in a file, see `load_targets`."""
    path = pathlib.Path(source)
    if not path.is_file():
        raise InputError(f"--model.features.source {source}: no such file. Give an .npz, a .parquet, or coexpression.")
    if path.suffix == ".npz":
        return _from_npz(path)
    if path.suffix == ".parquet":
        return _from_parquet(path)
    raise InputError(f"{path}: target features are read from .npz and .parquet files.")


def _from_npz(path: pathlib.Path) -> TargetTable:
    try:
        arrays = read_npz(path, ("labels", "features"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} must hold the arrays labels and features, without objects ({error}).") from error
    labels, values = arrays["labels"], arrays["features"]
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        shapes = f"{values.shape} and {labels.shape}"
        raise InputError(f"{path}: features must be of shape (targets, K) and labels of (targets,); got {shapes}.")
    return _standardised(tuple(map(str, labels)), values, str(path))


def _from_parquet(path: pathlib.Path) -> TargetTable:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as a parquet table ({str(error).splitlines()[0]}).") from error
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    if len(texts) > 1 or len(texts) == len(table.columns):
        raise InputError(f"{path} must have one column of labels (or an index of them) and columns of numbers.")
    labels = table[texts[0]] if texts else table.index
    return _standardised(tuple(map(str, labels)), table.drop(columns=texts).to_numpy(), str(path))


def _standardised(labels: tuple[str, ...], values: np.ndarray, source: str) -> TargetTable:
    if len(set(labels)) != len(labels):
        raise InputError(f"{source} lists a target twice. Keep one row per target.")
    if not len(labels) or not values.shape[1]:
        raise InputError(f"{source} has features of no target.")
    if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise InputError(f"{source}: features must be finite numbers.")
    wide = values.astype(np.float64)
    spread = wide.std(axis=0)
    scaled = (wide - wide.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return TargetTable(labels, scaled.astype(np.float32))
