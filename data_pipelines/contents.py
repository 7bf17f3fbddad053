"""What a store holds: the list of its files, since readers of zarr take missing chunks for zeros, and their checksums.

The chunks of X carry checksums of their own, inside (`ingestion.writer`); every other file has a line here. A store
that was made before there were checksums is read without.
"""

import binascii
from collections.abc import Mapping

import google_crc32c

from data_pipelines.errors import InputError
from data_pipelines.location import Location

CONTENTS = "contents/files.txt"
"""Every file of the store but the root's metadata and this one, one key a line."""
CHECKSUMS = "contents/checksums.txt"
"""A CRC-32C and a key a line; the first line is that of the lines after it."""
ROOT = "zarr.json"
_READ_AT_ONCE = (CONTENTS, ROOT, *(f"X/{name}/zarr.json" for name in ("data", "indices", "indptr")))
"""Checked when a store is opened: other files are checked by who reads them."""


def write_contents(store: Location, root: bytes) -> None:
    """List what is stored now, with checksums.

    Args:
        store: complete but for the root's metadata.
        root: the root's metadata.
    """
    store.delete([CONTENTS, CHECKSUMS])
    keys = store.list_keys()
    listed = "\n".join([*keys, CHECKSUMS]).encode()
    store.write(CONTENTS, listed)
    sums = {key: _sum(store.read(key) or b"") for key in keys if not _has_its_own(key)}
    sums |= {CONTENTS: _sum(listed), ROOT: _sum(root)}
    lines = "".join(f"{sums[key]} {key}\n" for key in sorted(sums)).encode()
    store.write(CHECKSUMS, f"{_sum(lines)}\n".encode() + lines)


def read_checksums(store: Location) -> Mapping[str, str]:
    """The checksums of a store's files by key; none where the store has no list of them.

    Raises:
        InputError: the list is damaged.
    """
    found = store.read(CHECKSUMS)
    if found is None:
        return {}
    first, _, lines = found.partition(b"\n")
    if first != _sum(lines).encode():
        raise damaged(store / CHECKSUMS)
    return {key: value for value, _, key in (line.partition(" ") for line in lines.decode().splitlines())}


def check_file(store: Location, key: str, content: bytes, checksums: Mapping[str, str]) -> None:
    """Require that a file holds what was written, where that is known.

    Raises:
        InputError: it does not; names it.
    """
    if key in checksums and _sum(content) != checksums[key]:
        raise damaged(store / key)


def check_contents(store: Location, checksums: Mapping[str, str]) -> None:
    """Require every file of the list, the list, and that those are whole which say what the others are.

    Raises:
        InputError: a file is missing; names the first one. Or one is damaged.
    """
    there = set(store.list_keys())
    listed = store.read(CONTENTS) if CONTENTS in there else None
    if listed is not None:
        check_file(store, CONTENTS, listed, checksums)
    missing = {CONTENTS} if listed is None else set(listed.decode(errors="replace").splitlines()) - there
    if missing:
        raise InputError(f"{store} lacks {len(missing)} of its files ({min(missing)}). Copy it again, or ingest again.")
    for key in _READ_AT_ONCE:
        check_file(store, key, store.read(key) or b"", checksums)


def damaged(place: Location) -> InputError:
    """A file that does not hold what was written."""
    return InputError(
        f"{place} is damaged and cannot be read (it is not what was written). Copy the store again, or ingest again."
    )


def _has_its_own(key: str) -> bool:
    return key.startswith("X/") and "/c/" in key


def _sum(content: bytes) -> str:
    return binascii.hexlify(google_crc32c.Checksum(content).digest()).decode()
