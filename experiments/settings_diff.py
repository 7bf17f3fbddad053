"""What differs between the settings of a run and those of a command, one setting a line."""

import json
from typing import Any

from experiments.runs import UID, where_it_computes

_SHOWN = 20


def settings_pairs(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, before, after) where two contents of config.json differ; what does not decide a run is left out."""
    return list(_differences(before, json.loads(json.dumps(after)), ""))


def settings_diff(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Lines `name: before -> after` for two contents of config.json."""
    pairs = settings_pairs(before, after)
    lines = [f"  {name}: {setting_text(old)} -> {setting_text(new)}" for name, old, new in pairs[:_SHOWN]]
    if len(pairs) > _SHOWN:
        lines.append(f"  and {len(pairs) - _SHOWN} more")
    return "\n".join(lines) or "  (the settings are the same; the run was made by another version)"


def _differences(before: Any, after: Any, prefix: str) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys(), key=lambda key: (key != "type", key)):
            name = f"{prefix}.{key}".removeprefix(".").removeprefix("experiment.")
            if name not in _OF_NO_MATTER:
                yield from _differences(before.get(key), after.get(key), name)
    elif before != after:
        yield prefix, before, after


_OF_NO_MATTER = {"format", "identity", UID, *where_it_computes()}


def setting_text(value: Any) -> str:
    """A setting as people read it; a type by its name."""
    if isinstance(value, dict):
        return value.get("type", "{...}")
    return "not set" if value is None else str(value)
