"""JSON files that carry a checksum of their own: a digit that a bad disk changed is still a number."""

import json
from collections.abc import Callable
from typing import Any

from lingshu_jax.vocabulary import content_hash

_SUM = "checksum"


def dump(value: dict[str, Any]) -> bytes:
    """An object as a file holds it."""
    return json.dumps({**value, _SUM: content_hash(value)}).encode()


def load(content: bytes, check_version: Callable[[Any], object]) -> dict[str, Any]:
    """The object of a file.

    Args:
        content: of the file.
        check_version: raises where its `format` is none that is read here; asked first, as another version may sum
            otherwise.

    Raises:
        ValueError: it is no JSON object, or not what was written. One without a checksum is taken as it is.
    """
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    check_version(value.get("format"))
    checksum = value.pop(_SUM, None)
    if checksum is not None and checksum != content_hash(value):
        raise ValueError("it was changed by hand, or damaged")
    return value
