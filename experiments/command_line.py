"""Command-line arguments into a command's dataclass (tyro), every mistake told in one line."""

import contextlib
import dataclasses
import io
import itertools
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import tyro

from data_pipelines.errors import InputError
from experiments.type_choices import describe_choices, take_choices

_PYTHONS_WORDS = {
    r"invalid literal for int\(\) with base 10": "a whole number",
    "could not convert string to float": "a number",
}
_FRAME = " │|╭╮╰╯┌┐└┘"
_CONFIG = (tyro.conf.AvoidSubcommands, tyro.conf.ConsolidateSubcommandArgs)


def parse(kind: Any, arguments: Sequence[str], *, prog: str, description: str, default: Any = None) -> Any:
    """Build `kind` from arguments, settings that are not given from `default`; `--help` prints and exits with 0.

    Settings that are one of several types are chosen by name, see `type_choices`.

    Raises:
        InputError: an argument is unknown, missing or has no valid value; names the nearest.
    """
    said = io.StringIO()
    if default is not None:
        default, arguments = take_choices(default, arguments)
        description += describe_choices(default)
    try:
        with contextlib.redirect_stderr(said):
            given = {} if default is None else {"default": default}
            options = tyro.cli(kind, args=list(arguments), prog=prog, description=description, config=_CONFIG, **given)
    except SystemExit as end:
        if end.code == 0:
            raise
        raise InputError(f"{one_line(said.getvalue())} See: {prog} --help") from None
    except ValueError as error:  # settings that do not fit each other
        raise InputError(f"{error} See: {prog} --help") from None
    _check_values(options)
    return options


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/")
LARGEST_SEED = 2**32 - 1


def _check_values(options: Any, path: str = "--") -> None:
    """Require finite numbers, folders of this machine and possible seeds, anywhere in nested dataclasses."""
    for field in dataclasses.fields(options):
        value: Any = getattr(options, field.name)
        name = path + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            _check_values(value, "--" if field.name == "config" else f"{name}.")
        elif field.name == "seed" and not 0 <= value <= LARGEST_SEED:
            raise InputError(f"{name} must lie in 0..{LARGEST_SEED}, got {value}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, got {value}.")
        elif isinstance(value, pathlib.Path) and (scheme := _SCHEME.match(str(value))):
            raise InputError(
                f"{name} must be a path of this machine, not a {scheme[1]}:// URL. Mount the bucket, and pass the "
                f"file's path."
            )


def one_line(text: str) -> str:
    """tyro's message without its frame: what is wrong, and the nearest options."""
    lines = [line.strip(_FRAME) for line in text.splitlines()]
    paragraphs = [" ".join(group) for rule, group in itertools.groupby(lines, key=_is_rule) if not rule]
    paragraphs = [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()]
    # Where the frame is drawn in plain ASCII its title is a paragraph of its own; what is wrong has a colon.
    body = [paragraph for paragraph in paragraphs if ":" in paragraph or "invalid choice" in paragraph]
    body = body or ["the arguments cannot be read"]
    wrong = body[0].split(" Argument helptext:")[0].split(" For full helptext")[0]
    wrong = re.sub(r"^Error parsing (config\.[\w.]+|launch|distributed): ", "", wrong)
    for python, kind in _PYTHONS_WORDS.items():
        wrong = re.sub(rf"^Error parsing (--[\w.-]+): {python}: ('.*')", rf"\1 must be {kind}, got \2", wrong)
    wrong = re.sub(
        r"^Missing from [^:]+: (?:(--[\w.-]+) [^ ]+|\[*[A-Z]+[^ ]*) (.*?)\.? \(required\).*$",
        lambda found: f"{found[1] or 'an argument'} is missing: {found[2]}",
        wrong,
    )
    near = next((section for section in body if section.startswith("Perhaps you meant")), "")
    options = re.findall(r"(--[\w.-]+)", near)
    nearest = f" (nearest: {', '.join(dict.fromkeys(options))})" if options else ""
    return f"{wrong.rstrip('.')}{nearest}."


def _is_rule(line: str) -> bool:
    return line.startswith("─") or not line.strip("-")


def take_prefixed(arguments: Sequence[str], prefix: str) -> tuple[dict[str, str], list[str]]:
    """Split off `--PREFIX.NAME VALUE` pairs, whose names only the data know: ({name: value}, the other arguments)."""
    taken: dict[str, str] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith(f"--{prefix}."):
            rest.append(argument)
            continue
        name, equals, value = argument.removeprefix(f"--{prefix}.").partition("=")
        if not equals:
            if not queue:
                raise InputError(f"{argument} needs a value.")
            value = queue.pop(0)
        taken[name] = value
    return taken, rest
