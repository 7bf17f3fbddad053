"""What ties model and data together: experiments, runs, sampling, evaluation, and the command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.load import LoadedRun, load_run

__all__ = ["LoadedRun", "load_run"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line starts at once."""
    if name in __all__:
        from experiments import load

        return getattr(load, name)
    raise AttributeError(f"module 'experiments' has no attribute {name!r}")
