"""What is to be ingested: paths, patterns, or a YAML manifest that says more about each source."""

import dataclasses
import glob
import pathlib
from collections.abc import Iterable
from typing import Any

from data_pipelines.errors import InputError
from data_pipelines.ingestion.names import require_name
from lingshu_jax.vocabulary import nearest

MANIFEST_SUFFIXES = (".yaml", ".yml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """One source, and how to read it."""

    path: pathlib.Path
    """h5ad file, AnnData zarr folder, 10x .h5 file, or 10x folder with matrix.mtx."""
    layer: str | None = None
    """The matrix with the raw counts: 'raw.X' or a layer's name; None for X."""
    rename: tuple[tuple[str, str], ...] = ()
    """obs columns: (name in the file, name in the store)."""
    add: tuple[tuple[str, str], ...] = ()
    """obs columns that get one value for all cells of the source: (name, value)."""
    keep: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Cells to keep: (column in the store, its labels); a cell must pass all of them."""

    def to_json(self) -> dict[str, Any]:
        """How it is read; not where it lies."""
        return {
            "layer": self.layer,
            "rename": [list(pair) for pair in self.rename],
            "add": [list(pair) for pair in self.add],
            "keep": [[column, list(labels)] for column, labels in self.keep],
        }


def find_inputs(paths: "str | pathlib.Path | Iterable[str | pathlib.Path]", *, layer: str | None = None) -> list[Input]:
    """The sources that paths, patterns (`*`, `?`, `**`) and manifests name, in that order; matches are sorted.

    Args:
        paths: one or more of them. A manifest's own settings win over `layer`.
        layer: where the raw counts are, for sources that do not say.

    Raises:
        InputError: nothing is given, a pattern matches nothing, a source is named twice, or a manifest is wrong.
    """
    given = [str(path) for path in ([paths] if isinstance(paths, str | pathlib.Path) else paths)]
    if not given:
        raise InputError("no input given. Pass at least one file, folder, pattern or manifest.")
    found: list[Input] = []
    for path in given:
        if path.endswith(MANIFEST_SUFFIXES):
            found += read_manifest(pathlib.Path(path), layer=layer)
        else:
            found += [Input(path=match, layer=layer) for match in _matches(path)]
    seen: dict[pathlib.Path, Input] = {}
    for one in found:
        place = _resolved(one.path)
        if place in seen:
            raise InputError(f"{one.path} is listed twice: its cells would count double. Pass every source once.")
        seen[place] = one
    return found


def read_manifest(path: pathlib.Path, *, layer: str | None = None) -> list[Input]:
    """The sources of a YAML manifest; their paths are relative to it.

        sources:
          - path: plates/*.h5ad          # a file, folder or pattern
            layer: counts                # raw.X or a layer's name; X or what holds raw counts where not given
            rename: {line: cell_line}    # obs column in the file: name in the store
            add: {study: smith2025}      # obs column: one value for all cells of the source
            keep: {quality: [pass]}      # only cells with these labels

    Raises:
        InputError: the manifest cannot be read, or holds an unknown setting.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Check the path of the manifest.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # wrong dates, brackets without end
        raise InputError(f"{path} is no YAML ({' '.join(str(error).split())}). See docs/data.md.") from error
    if not isinstance(value, dict) or not isinstance(value.get("sources"), list) or not value["sources"]:
        raise InputError(f"{path} lists no sources. Write 'sources:' and one '- path: FILE' per source.")
    _known(value, ("sources",), f"{path}")
    return [one for entry in value["sources"] for one in _entry(path, entry, layer)]


def _entry(manifest: pathlib.Path, entry: Any, layer: str | None) -> list[Input]:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise InputError(f"{manifest}: a source has no path: {entry!r}. Write '- path: FILE'.")
    where = f"{manifest}, source {entry['path']}"
    _known(entry, ("path", "layer", "rename", "add", "keep"), where)
    layer = entry.get("layer", layer)
    if layer is not None and not isinstance(layer, str):
        raise InputError(f"{where}: layer must be a name, got {layer!r}.")
    keep, rename, add = (_mapping(entry, name, where) for name in ("keep", "rename", "add"))
    for name in (*add, *rename.values()):
        require_name(name, where)
    labels = {name: value if isinstance(value, list) else [value] for name, value in keep.items()}
    return [
        Input(
            path=path,
            layer=layer,
            rename=_pairs(rename),
            add=_pairs(add),
            keep=tuple((str(name), tuple(map(str, values))) for name, values in labels.items()),
        )
        for path in _matches(entry["path"], manifest.parent)
    ]


def _resolved(path: pathlib.Path) -> pathlib.Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a zero byte
        raise InputError(f"{str(path)!r} leads nowhere ({error}). Check the path.") from error


def _matches(pattern: str, folder: pathlib.Path = pathlib.Path()) -> list[pathlib.Path]:
    """The path itself, or what it matches as a pattern."""
    path = folder / pattern
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))
    if not found:
        raise InputError(f"{path} matches no file. Check the pattern (quoted, so that the shell leaves it alone).")
    return [pathlib.Path(name) for name in found]


def _known(value: dict[Any, Any], names: tuple[str, ...], where: str) -> None:
    unknown = [name for name in value if name not in names]
    if unknown:
        raise InputError(f"{where}: unknown setting {unknown[0]!r} (nearest: {nearest(str(unknown[0]), names)}).")


def _mapping(entry: dict[str, Any], name: str, where: str) -> dict[Any, Any]:
    value = entry.get(name) or {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: {name} must be a mapping, got {value!r}.")
    return value


def _pairs(value: dict[Any, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(text)) for name, text in value.items())
