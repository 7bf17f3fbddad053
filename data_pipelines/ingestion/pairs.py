"""Tables of two columns in text files: aliases of genes, targets of guides."""

import pathlib

from data_pipelines.errors import InputError


def read_pairs(path: str | pathlib.Path, first: str, second: str) -> dict[str, str]:
    """First column -> second column of a csv or tsv file; a header line becomes a harmless pair.

    Args:
        path: the file.
        first: what the first column holds, for messages.
        second: what the second one holds.

    Raises:
        InputError: the file cannot be read, a line has not two fields, or something has two values.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Pass a csv with the columns {first}, {second}.") from error
    pairs: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key, value = ([part.strip() for part in line.replace("\t", ",").split(",")] + [""])[:2]
        if not key or not value or pairs.get(key, value) != value:
            raise InputError(f"{path}, line {number}: expected one '{first},{second}' per {first}, got {line[:80]!r}.")
        pairs[key] = value
    return pairs
