"""What differs between the settings of a run and those of a command, one setting a line."""

import json
from typing import Any

from experiments.runs import where_it_computes

_SHOWN = 20


def settings_diff(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Lines `name: before -> after` for two contents of config.json; what does not decide a run is left out."""
    pairs = list(_differences(before, json.loads(json.dumps(after)), ""))
    lines = [f"  {name}: {_text(old)} -> {_text(new)}" for name, old, new in pairs[:_SHOWN]]
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


_OF_NO_MATTER = {"identity", *where_it_computes()}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return value.get("type", "{...}")
    return "not set" if value is None else str(value)
