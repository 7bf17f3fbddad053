"""Folders in object stores, by gs:// and s3:// URLs."""

from typing import Any

SCHEMES = ("gs://", "s3://")


def in_bucket(path: Any) -> bool:
    """Whether a path or URL is in an object store."""
    return str(path).startswith(SCHEMES)
