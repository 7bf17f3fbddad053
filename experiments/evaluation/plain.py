"""Trees of dataclasses as JSON, and back."""

import dataclasses
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np


def plain(value: Any) -> Any:
    """A tree of dataclasses as JSON has it; NaN and infinities become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def typed(kind: Any, value: Any) -> Any:
    """The inverse of `plain`, led by type hints; entries that the type does not know are left out."""
    origin = get_origin(kind)
    if value is None or kind is Any:
        return value
    if origin in (Union, UnionType):
        return typed(next(option for option in get_args(kind) if option is not type(None)), value)
    if origin is dict:
        return {key: typed(get_args(kind)[1], entry) for key, entry in value.items()}
    if origin is tuple:
        return tuple(typed(get_args(kind)[0], entry) for entry in value)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: typed(hints[name], entry) for name, entry in value.items() if name in hints})  # type: ignore
    return value
