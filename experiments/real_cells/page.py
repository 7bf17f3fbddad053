"""A page of prose with tables between markers: the tables are written anew, every other line stays as it is.

<!-- table: NAME -->
...
<!-- end of table: NAME -->
"""

import re
from collections.abc import Mapping, Sequence

from data_pipelines.errors import InputError
from experiments.storage import Folder, storage_of

_MARKER = re.compile(r"<!-- (end of )?table: (\S+) -->")


def read_page(path: Folder) -> list[str]:
    """Lines of the page; [] where there is none.

    Raises:
        InputError: its markers do not pair up, so that prose might be lost.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is no text file ({error}). Pass another page: --out FILE.") from error
    inside: str | None = None
    for number, line in enumerate(lines, 1):
        if marker := _MARKER.fullmatch(line.strip()):
            end, name = bool(marker[1]), marker[2]
            if end != (inside is not None) or (end and inside != name):
                raise InputError(
                    f"{path}, line {number}: {line.strip()} has no marker that it belongs to. Mend the page."
                )
            inside = None if end else name
    if inside is not None:
        raise InputError(f"{path}: the table {inside!r} has no end. Add the line <!-- end of table: {inside} -->.")
    return lines


def with_tables(lines: Sequence[str], tables: Mapping[str, Sequence[str]], title: str) -> list[str]:
    """The page with these tables between their markers; those that it has no place for stand at its end.

    Args:
        lines: of the page; none makes a page of tables alone.
        tables: name -> lines of markdown.
        title: of a page that is made.
    """
    page: list[str] = []
    left, skipping = dict(tables), False
    for line in lines or [f"# {title}"]:
        marker = _MARKER.fullmatch(line.strip())
        skipping = skipping and marker is None
        if not skipping:
            page.append(line)
        if marker and not marker[1] and marker[2] in left:
            page += ["", *left.pop(marker[2]), ""]
            skipping = True
    for name, table in left.items():
        page += ["", f"## {name}", "", f"<!-- table: {name} -->", "", *table, "", f"<!-- end of table: {name} -->"]
    return page


def write_page(path: Folder, lines: Sequence[str]) -> bool:
    """Write the page in one step where it has changed; whether it has."""
    return _write(path, "\n".join(lines).encode() + b"\n")


def write_pictures(page: Folder, pictures: Mapping[str, bytes]) -> None:
    """Write what has changed of the pictures, by their place beside the page."""
    for place, content in pictures.items():
        _write(page.parent / place, content)


def _write(path: Folder, content: bytes) -> bool:
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    storage_of(path).write(path, content)
    return True
