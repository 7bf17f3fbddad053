"""Which names of columns a store can hold: each is a folder of the store."""

import unicodedata
from typing import Any

from data_pipelines.errors import InputError

_RESERVED = ("_index", "_source", "_input_index", "_source_name", "zarr.json", ".", "..")
_LONGEST = 200
"""Bytes."""


def fault_of_name(name: Any) -> str | None:
    """Why a store cannot hold a column of this name, or None."""
    if not isinstance(name, str) or not name:
        return "it is no text"
    if name in _RESERVED:
        return "it is reserved"
    if len(name.encode(errors="surrogatepass")) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    if "/" in name or "\\" in name:
        return "it has a slash"
    if len(name.splitlines()) > 1 or any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "it has a character that cannot be printed"
    return None


def require_name(name: Any, where: str) -> None:
    """Require a name that a store can hold.

    Raises:
        InputError: it cannot.
    """
    fault = fault_of_name(name)
    if fault is not None:
        said = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:80]}..."
        raise InputError(f"{where}: column {said} cannot be stored: {fault}. Give it another name in the manifest.")
