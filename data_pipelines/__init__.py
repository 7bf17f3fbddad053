"""AnnData in, device-ready batches out: inspect, ingest, store, split, statistics, loader, simulated screens."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipelines.columns import Columns
    from data_pipelines.errors import InputError
    from data_pipelines.ingestion import ingest
    from data_pipelines.inspect import Inspection, inspect_files
    from data_pipelines.layouts import dense_counts, padded_pairs
    from data_pipelines.loader import make_loader
    from data_pipelines.proposal import propose_columns
    from data_pipelines.simulate import ScreenConfig, simulate_screen
    from data_pipelines.slabs import condition_rows
    from data_pipelines.splits import (
        HeldOutCombinations,
        HeldOutPerturbations,
        RandomCells,
        Split,
        default_split_kind,
        load_split,
        make_default_split,
        make_split,
    )
    from data_pipelines.statistics import Statistics, compute_statistics, load_statistics
    from data_pipelines.store import CellStore

_HOME = {
    "CellStore": "store",
    "Columns": "columns",
    "HeldOutCombinations": "splits",
    "HeldOutPerturbations": "splits",
    "InputError": "errors",
    "Inspection": "inspect",
    "RandomCells": "splits",
    "ScreenConfig": "simulate",
    "Split": "splits",
    "Statistics": "statistics",
    "compute_statistics": "statistics",
    "condition_rows": "slabs",
    "default_split_kind": "splits",
    "dense_counts": "layouts",
    "ingest": "ingestion",
    "inspect_files": "inspect",
    "load_split": "splits",
    "make_default_split": "splits",
    "load_statistics": "statistics",
    "make_loader": "loader",
    "make_split": "splits",
    "padded_pairs": "layouts",
    "propose_columns": "proposal",
    "simulate_screen": "simulate",
}
__all__ = [
    "CellStore",
    "Columns",
    "HeldOutCombinations",
    "HeldOutPerturbations",
    "InputError",
    "Inspection",
    "RandomCells",
    "ScreenConfig",
    "Split",
    "Statistics",
    "compute_statistics",
    "condition_rows",
    "default_split_kind",
    "dense_counts",
    "ingest",
    "inspect_files",
    "load_split",
    "load_statistics",
    "make_default_split",
    "make_loader",
    "make_split",
    "padded_pairs",
    "propose_columns",
    "simulate_screen",
]


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): anndata, zarr and grain take seconds to import, and `lingshu --help` needs none of them.
    if name not in _HOME:
        raise AttributeError(f"module 'data_pipelines' has no attribute {name!r}")
    return getattr(importlib.import_module(f"data_pipelines.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
