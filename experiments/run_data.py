"""The store and split that a run was trained on, checked against the hashes it recorded."""

import pathlib
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.runs import RunFolder

if TYPE_CHECKING:
    from data_pipelines import CellStore, Split


def run_data(run: RunFolder, store_path: str | pathlib.Path | None = None) -> "tuple[CellStore, Split]":
    """Open a run's store (or the same store at another place) and its split.

    Raises:
        InputError: the store is gone, or is not the one that the run was trained on.
    """
    from data_pipelines import CellStore, load_split
    from data_pipelines.location import Location

    config = run.config()
    path = Location(store_path or config["store"])
    if not path.exists("zarr.json"):
        raise InputError(f"{path}, the store of run {run.id}, does not exist. Pass where it is now: --store STORE")
    store = CellStore.open(path)
    if store.hash != config["store_hash"]:
        raise InputError(f"{path} (hash {store.hash}) is not the store of run {run.id} (hash {config['store_hash']}).")
    split = load_split(store, config["split"])
    if split.hash != config["split_hash"]:
        raise InputError(
            f"split {split.name!r} of {path} (hash {split.hash}) is not the one of run {run.id} "
            f"(hash {config['split_hash']}). Restore it, or train again."
        )
    return store, split
