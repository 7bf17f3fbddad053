"""The list of a store's files: readers of zarr take missing chunks for zeros, so the store says what it holds."""

from data_pipelines.errors import InputError
from data_pipelines.location import Location

CONTENTS = "contents/files.txt"
"""Every file of the store but the root's metadata and this one, one key a line."""


def write_contents(store: Location) -> None:
    """List what is stored now."""
    store.delete([CONTENTS])
    store.write(CONTENTS, "\n".join(store.list_keys()).encode())


def check_contents(store: Location) -> None:
    """Require every file of the list, and the list.

    Raises:
        InputError: a file is missing; names the first one.
    """
    there = set(store.list_keys())
    listed = store.read(CONTENTS) if CONTENTS in there else None
    missing = {CONTENTS} if listed is None else set(listed.decode(errors="replace").splitlines()) - there
    if missing:
        raise InputError(f"{store} lacks {len(missing)} of its files ({min(missing)}). Copy it again, or ingest again.")
