"""Splits in the TOML format of STATE and cell-load: `[zeroshot]` contexts, and `[fewshot]` lists of perturbations.

[datasets]
screen = "screen.store"
[training]
screen = "train"
[zeroshot]
"screen.jurkat" = "test"
[fewshot."screen.rpe1"]
val = ["AARS"]
test = ["NUP107"]
"""

import json
import pathlib
import tomllib
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError
from data_pipelines.held_out_contexts import ListedConditions
from data_pipelines.split_parts import perturbed_conditions

if TYPE_CHECKING:
    from data_pipelines.splits import Split
    from data_pipelines.store import CellStore

_PARTS = ("val", "test")


def read_split_toml(path: str | pathlib.Path, *, field: str | None = None, seed: int = 0) -> ListedConditions:
    """The conditions that a TOML file holds out; its one dataset is the store it is used with.

    Args:
        path: the file.
        field: the context column that its contexts are labels of; None takes the store's first.
        seed: of the controls that go into val and test.

    Raises:
        InputError: the file cannot be read, speaks of several datasets, or of a part other than val and test.
    """
    path = pathlib.Path(path)
    try:
        value = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Check the path of the TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is no TOML ({error}).") from error
    zeroshot, fewshot = _table(value, "zeroshot", path), _table(value, "fewshot", path)
    names = {str(key).split(".", 1)[0] for key in (*zeroshot, *fewshot)}
    if not names:
        raise InputError(f"{path} holds nothing out: it has no conditions in [zeroshot] or [fewshot].")
    if len(names) > 1:
        raise InputError(
            f"{path} speaks of {len(names)} datasets ({', '.join(sorted(names))}); a store is one. Split it."
        )
    for context, part in zeroshot.items():
        if part not in _PARTS:
            raise InputError(f"{path}: zeroshot {context!r} goes into 'val' or 'test', not {part!r}.")
    listed = []
    for context, parts in fewshot.items():
        if not isinstance(parts, dict) or set(parts) - set(_PARTS):
            raise InputError(f"{path}: fewshot {context!r} must have lists 'val' and 'test', got {parts!r}.")
        for part, perturbations in parts.items():
            if not isinstance(perturbations, list):
                raise InputError(f"{path}: fewshot {context!r}, {part} must be a list, got {perturbations!r}.")
            listed.append((_context(context, path), part, tuple(map(str, perturbations))))
    return ListedConditions(
        seed=seed,
        field=field,
        zeroshot=tuple((_context(context, path), part) for context, part in zeroshot.items()),
        fewshot=tuple(listed),
    )


def split_toml(store: "CellStore", split: "Split", *, field: str | None = None) -> str:
    """A split as such a TOML file.

    Raises:
        InputError: the split holds out cells rather than conditions, or conditions that one context column cannot tell.
    """
    contexts = store.columns.context
    if not split.held_out or not contexts:
        raise InputError(f"split {split.name!r} holds out no conditions of a context: TOML cannot say it.")
    field = field or contexts[0]
    perturbation = store.columns.perturbation
    assert perturbation is not None
    conditions = perturbed_conditions(store)
    place = conditions.fields.index(field)
    everything: dict[str, dict[tuple[str, ...], str]] = {}
    for labels, control in zip(conditions.labels, conditions.control, strict=True):
        if not control:
            everything.setdefault(labels[place], {})[labels] = "train"
    for condition in split.held_out:
        labels = tuple(condition[name] for name in conditions.fields)
        everything[labels[place]][labels] = condition["part"]
    name = store.path.name.removesuffix(".store").replace(".", "_")
    zeroshot, fewshot = [], []
    for context, parts in everything.items():
        key = json.dumps(f"{name}.{context}", ensure_ascii=False)
        if len(set(parts.values())) == 1 and "train" not in parts.values():
            zeroshot.append(f"{key} = {json.dumps(next(iter(parts.values())))}")
            continue
        by_label: dict[str, set[str]] = {}
        for labels, part in parts.items():
            by_label.setdefault(labels[-1], set()).add(part)
        if any(len(found) > 1 for found in by_label.values()):
            raise InputError(
                f"split {split.name!r} holds out some of {field} {context!r} by its other columns: TOML cannot say it."
            )
        lists = {part: sorted(label for label, found in by_label.items() if part in found) for part in _PARTS}
        if any(lists.values()):
            lines = [f"{part} = {json.dumps(labels, ensure_ascii=False)}" for part, labels in lists.items() if labels]
            fewshot.append("\n".join([f"\n[fewshot.{key}]", *lines]))
    head = (
        f'[datasets]\n{json.dumps(name)} = {json.dumps(str(store.path))}\n\n[training]\n{json.dumps(name)} = "train"\n'
    )
    return "\n".join([head, "[zeroshot]", *zeroshot, *fewshot]) + "\n"


def _table(value: dict[str, Any], name: str, path: pathlib.Path) -> dict[str, Any]:
    table = value.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{path}: {name} must be a table, got {table!r}.")
    return table


def _context(key: str, path: pathlib.Path) -> str:
    dataset, dot, context = key.partition(".")
    if not dot or not dataset or not context:
        raise InputError(f'{path}: {key!r} names no context. Write "DATASET.CONTEXT".')
    return context
