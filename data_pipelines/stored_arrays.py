"""Arrays learned from the training cells of a split: streamed in blocks, computed once, stored under its hash."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.npz import read_npz
from data_pipelines.progress import Progress
from data_pipelines.splits import Split
from data_pipelines.statistics import blocks_of, check_split

if TYPE_CHECKING:
    from data_pipelines.store import CellStore


def with_places(
    store: "CellStore", rows: np.ndarray, stage: str, progress: Progress
) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks of rows with the place of their first one."""
    first = 0
    for some in blocks_of(store, rows):
        yield first, some
        first += len(some)
        progress(stage, first, len(rows))


def stored_arrays(
    store: "CellStore", split: Split, name: str, compute: Callable[[], Mapping[str, np.ndarray]]
) -> Mapping[str, np.ndarray]:
    """Arrays under the split's hash; computed now where they are not there.

    Raises:
        InputError: the split is of another store, or what is stored cannot be read.
    """
    check_split(store, split)
    folder, key = store.path / f"statistics/{split.hash}", f"{name}.npz"
    found = folder.read(key)
    if found is None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **compute())
        found = buffer.getvalue()
        folder.write(key, found)
    try:
        return read_npz(found)
    except ValueError as error:
        raise InputError(f"{folder}/{key} cannot be read ({error}). Remove the file; it is computed again.") from error
