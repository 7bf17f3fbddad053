"""Aliases: names of a checkpoint that can be moved (`production`), one small file each in RUNS/aliases."""

import dataclasses
import json
import re

from data_pipelines.errors import InputError
from experiments.runs import CONFIG, RunFolder, write_json
from experiments.storage import Folder

FOLDER = "aliases"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alias:
    """A name of one checkpoint of one run."""

    name: str
    run: str
    """EXPERIMENT/ID."""
    step: int

    def folder(self, root: Folder) -> RunFolder:
        """Its run.

        Raises:
            InputError: it is gone.
        """
        folder = root / self.run
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"alias {self.name!r} names {self.run}, which is not in {root} any more. Move it: "
                f"lingshu runs alias {self.name} RUN; or remove it: lingshu runs unalias {self.name}"
            )
        return RunFolder(folder)

    def missing(self, root: Folder) -> str:
        """What of it is gone, as "checkpoint" or "run"; "" while it can be used."""
        folder = root / self.run
        if not (folder / CONFIG).is_file():
            return "run"
        return "" if self.step in RunFolder(folder).saved_steps() else "checkpoint"


def read_alias(root: Folder, name: str) -> Alias | None:
    """The alias of this name; None where there is none.

    Raises:
        InputError: its file is damaged.
    """
    file = root / FOLDER / f"{name}.json"
    if not _NAME.fullmatch(name) or not file.is_file():
        return None
    try:
        tree = json.loads(file.read_text())
        run, step = tree["run"], tree["step"]
        if not isinstance(run, str) or not isinstance(step, int):
            raise TypeError("run and step are not text and number")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}). Set it again: lingshu runs alias {name} RUN") from error
    return Alias(name=name, run=run, step=step)


def all_aliases(root: Folder) -> list[Alias]:
    """Every alias that can be read, by name."""
    found = []
    for file in sorted((root / FOLDER).glob("*.json")):
        try:
            alias = read_alias(root, file.name.removesuffix(".json"))
        except InputError:
            continue  # said by whoever asks for it
        if alias is not None:
            found.append(alias)
    return found


def set_alias(root: Folder, name: str, run: RunFolder, step: int | None, runs: list[RunFolder]) -> Alias:
    """Let a name stand for a checkpoint, the newest where no step is given; a name that is there moves.

    Raises:
        InputError: the name cannot be one, or is a run's; the run is another folder's, or has no such checkpoint.
    """
    if not _NAME.fullmatch(name) or name == "latest":
        raise InputError(
            f"{name[:40]!r} is no name for an alias. Use up to 100 letters, digits, '-', '_' and '.', not 'latest'."
        )
    if any(name == other.id for other in runs):
        raise InputError(f"{name!r} is the name of a run. Choose another name for the alias.")
    if run.name not in {other.name for other in runs}:
        raise InputError(f"{run.path} is no run of {root}: an alias names runs of its own folder. Pass its --runs.")
    saved = run.saved_steps()
    if not saved:
        raise InputError(f"run {run.name} has no checkpoint that could be named.")
    if step is not None and step not in saved:
        raise InputError(f"run {run.name} has no checkpoint of step {step}. There are: {', '.join(map(str, saved))}.")
    alias = Alias(name=name, run=run.name, step=saved[-1] if step is None else step)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    write_json(root / FOLDER / f"{name}.json", {"run": alias.run, "step": alias.step})
    return alias


def remove_alias(root: Folder, name: str) -> None:
    """Forget an alias.

    Raises:
        InputError: there is none of this name; names those there are.
    """
    file = root / FOLDER / f"{name}.json"
    if not _NAME.fullmatch(name) or not file.is_file():
        known = ", ".join(alias.name for alias in all_aliases(root)) or "none"
        raise InputError(f"there is no alias {name!r} in {root}. There are: {known}.")
    file.unlink()
