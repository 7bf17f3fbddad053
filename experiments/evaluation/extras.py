"""The packages of the `eval` extra, asked for when they are first needed."""

import importlib
from types import ModuleType

from data_pipelines.errors import InputError


def extra(module: str) -> ModuleType:
    """Import a module of the `eval` extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"evaluation and reports need {error.name!r}, which is not installed. "
            "Run: pip install 'lingshu-jax[eval]' (a clone: pip install -e '.[eval]')."
        ) from None
