"""Settings that are one of several types, chosen by name on the command line: `--sampler.schedule cosine`."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipelines.errors import InputError
from lingshu_jax.vocabulary import nearest


@dataclasses.dataclass(frozen=True)
class TypeChoice:
    """One dataclass setting of a dataclass."""

    option: str
    """As it is written, `--sampler.schedule`."""
    field: str
    kinds: dict[str, Any]
    """Types that it can be, by their name on the command line."""

    @property
    def below(self) -> str:
        """What the options of its own settings begin with."""
        return self.option if self.option == "--" else f"{self.option}."


def _choices_of(config: Any, option: str) -> Iterator[TypeChoice]:
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(getattr(config, field.name)):
            # The experiment's own settings stand without a prefix: see the options of `lingshu train`.
            name = option if field.name == "config" else f"{option}{field.name.replace('_', '-')}"
            kinds = [kind for kind in _members(hints[field.name]) if dataclasses.is_dataclass(kind)]
            yield TypeChoice(name, field.name, _short_names(kinds))


def find_choices(config: Any, option: str = "--") -> Iterator[TypeChoice]:
    """The settings of a tree of dataclasses that are one of several types."""
    for choice in _choices_of(config, option):
        if len(choice.kinds) > 1:
            yield choice
        yield from find_choices(getattr(config, choice.field), choice.below)


def take_choices(config: Any, arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """The config with the types that the arguments choose, at their defaults, and the other arguments.

    Raises:
        InputError: there is no type of that name, or the types do not fit together.
    """
    rest = list(arguments)
    try:
        return _chosen(config, rest, "--"), rest
    except ValueError as error:
        raise InputError(str(error)) from error


def _chosen(config: Any, arguments: list[str], option: str) -> Any:
    """All choices below a config at once: a type may fit another one's choice, but not its default."""
    changes = {}
    for choice in _choices_of(config, option):
        value = getattr(config, choice.field)
        kind = _take(choice, arguments) if len(choice.kinds) > 1 else None
        new = _chosen(value if kind is None else kind(), arguments, choice.below)
        if new is not value:
            changes[choice.field] = new
    return dataclasses.replace(config, **changes) if changes else config


def describe_choices(config: Any) -> str:
    """A line for `--help`; empty where nothing is to be chosen."""
    lines = [f"{choice.option} {'|'.join(choice.kinds)}" for choice in find_choices(config)]
    return f" Types: {', '.join(lines)}; the settings below are those of the types chosen." if lines else ""


def _take(choice: TypeChoice, arguments: list[str]) -> Any:
    """Remove the choice from the arguments, the last one of several."""
    chosen = None
    for i in range(len(arguments) - 1, -1, -1):
        name, equals, value = arguments[i].partition("=")
        if name.replace("_", "-") != choice.option:
            continue
        if not equals and i + 1 == len(arguments):
            raise InputError(f"{choice.option} needs one of: {', '.join(choice.kinds)}.")
        value = value if equals else arguments[i + 1]
        if value not in choice.kinds:
            raise InputError(
                f"{choice.option} must be one of {', '.join(choice.kinds)}, got {value!r} "
                f"(nearest: {nearest(value, choice.kinds, most=1)})."
            )
        chosen = chosen or choice.kinds[value]
        del arguments[i : i + (1 if equals else 2)]
    return chosen


def _members(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)


def _short_names(kinds: Sequence[Any]) -> dict[str, Any]:
    """Class names in kebab case, without the word that all but the nothing-types end with: `cosine`, `none`."""
    words = {kind: re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", kind.__name__) for kind in kinds}
    something = [parts for parts in words.values() if parts[0] != "No"]
    shared = len({parts[-1] for parts in something}) == 1 and all(len(parts) > 1 for parts in something)
    names = {}
    for kind, parts in words.items():
        kept = ["none"] if parts[0] == "No" else parts[:-1] if shared else parts
        names["-".join(kept).lower()] = kind
    return names
