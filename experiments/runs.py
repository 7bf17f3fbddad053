"""Run folders: RUNS/<experiment>/<run-id>/ and the references that name them."""

import contextlib
import dataclasses
import glob
import json
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from experiments.storage import Folder, folder_at, refuse_dangling, storage_of
from lingshu_jax.vocabulary import content_hash, nearest

if TYPE_CHECKING:
    from experiments.experiment import Experiment

CONFIG = "config.json"
FORMAT = 1
"""Of config.json."""
UID = "uid"
"""Of a folder, in its config: two folders of equal settings are two runs to a registry that holds both."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run on a disk or in a bucket: config, environment, metrics, checkpoints, samples, evaluations, report."""

    path: Folder

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        """EXPERIMENT/ID: one run of a folder of runs."""
        return f"{self.path.parent.name}/{self.id}"

    def shortest_name(self) -> str:
        """The id, or EXPERIMENT/ID where another experiment has a run of this id: a reference to this run alone."""
        alike = [folder for folder in self.root.glob(f"*/{glob.escape(self.id)}") if (folder / CONFIG).is_file()]
        return self.name if len(alike) > 1 else self.id

    @property
    def root(self) -> Folder:
        """RUNS: the folder of run folders."""
        return self.path.parent.parent

    @property
    def checkpoints(self) -> Folder:
        return self.path / "checkpoints"

    def saved_steps(self) -> list[int]:
        """Checkpoints that have their final name, in order; nothing of them is read."""
        return sorted(int(path.name) for path in self.checkpoints.glob("*") if path.name.isdigit())

    @property
    def samples(self) -> Folder:
        return self.path / "samples"

    @property
    def evaluations(self) -> Folder:
        return self.path / "evaluations"

    @property
    def sweeps(self) -> Folder:
        return self.path / "sweeps"

    @property
    def metrics(self) -> Folder:
        return self.path / "metrics.jsonl"

    def config(self) -> dict[str, Any]:
        """What the run was started with: experiment, store, split and their hashes."""
        try:
            config = json.loads((self.path / CONFIG).read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} is no run folder: {CONFIG} is missing or unreadable ({error}).") from error
        if not isinstance(config, dict) or not config.keys() >= _CONFIG_KEYS:
            raise InputError(f"{self.path / CONFIG} is damaged: it does not hold {', '.join(sorted(_CONFIG_KEYS))}.")
        check_format(f"{self.path / CONFIG}", config.get("format"), FORMAT, "Train again under another --run name.")
        wrong = [name for name, value in config.items() if not isinstance(value, _CONFIG_KINDS.get(name, object))]
        if wrong:
            raise InputError(
                f"{self.path / CONFIG} is damaged: its {min(wrong)!r} is not what a run writes. Restore it."
            )
        return config

    def experiment(self) -> "Experiment":
        """The run's experiment."""
        from experiments.config_json import from_json

        try:
            return from_json(self.config()["experiment"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{self.path / CONFIG}: {error}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl that is whole: a kill or a full disk may have cut one short."""
        lines = self.metrics.read_bytes().splitlines() if self.metrics.exists() else []
        return [entry for line in lines if (entry := metrics_entry(line)) is not None]


_CONFIG_KINDS: dict[str, Any] = {
    "experiment": dict,
    **dict.fromkeys(("identity", "store", "store_hash", "split", "split_hash"), str),
    "parent": dict | None,
    UID: str,
}
_CONFIG_KEYS = frozenset(("experiment", "identity", "store", "store_hash", "split", "split_hash"))


def metrics_entry(line: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None where it is not what a reporter wrote."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
        return None
    accounted = "useful_seconds" not in entry or _is_account(entry)
    figures = ("loss", "train_nats", "val_nats", "seconds")
    return entry if accounted and all(_is_number(entry.get(name, 0.0)) for name in figures) else None


def _is_account(entry: dict[str, Any]) -> bool:
    lost = entry.get("lost_seconds")
    return isinstance(lost, dict) and all(map(_is_number, (entry["useful_seconds"], entry.get("time"), *lost.values())))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def run_id(experiment: "Experiment", store_hash: str, split_hash: str, parent_hash: str | None = None) -> str:
    """10 hex digits that any process derives from experiment, store, split and seed, without talking to another.

    What changes where a run computes and what of it is kept, but not its results, is left out. What a run begins with
    is known by the hash of its checkpoint, by whatever name it was called.
    """
    from experiments.config_json import to_json

    config = to_json(experiment)
    config["init"] = [list(experiment.init.freeze), parent_hash]
    for name in where_it_computes():
        *sections, last = name.split(".")
        inner = config
        for section in sections:
            inner = inner[section]
        del inner[last]
    return content_hash([config, store_hash, split_hash], digits=10)


def where_it_computes() -> tuple[str, ...]:
    """Settings that may change between two starts of a run."""
    return (
        "mesh",
        "model.attention",
        "model.remat",
        "data.workers",
        "training.microbatches",
        "training.save_every",
        "training.save_minutes",
        "training.keep",
        "training.keep_every",
    )


_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


def check_name(name: str) -> str:
    """The name of a run, if a folder can have it and a reference can find it.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name) or name == "latest":
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise InputError(
            f"--run {shown!r} is no name for a run. Use up to 100 letters, digits, '-', '_' and '.', not 'latest'."
        )
    return name


def locked(run: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Hold a run for this process alone while it is trained."""
    return storage_of(run.path).held(
        run.path / "lock",
        f"run {run.path} is being trained by another process. Wait for it, or start another with --new.",
    )


def create(path: Folder, config: dict[str, Any], environment: dict[str, Any]) -> RunFolder:
    """Make the folder of a run, or open it where it is there already."""
    run = RunFolder(path)
    refuse_dangling(path)
    if not (path / CONFIG).exists():
        if run.checkpoints.is_dir() and any(run.checkpoints.iterdir()):
            raise InputError(
                f"{path} holds checkpoints and no {CONFIG}: of which settings they are is not known. Restore it, or "
                f"train under another --run name."
            )
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "environment.json", environment)
        write_json(path / CONFIG, {"format": FORMAT} | config | {UID: uuid.uuid4().hex[:12]})
    return run


def write_json(path: Folder, value: Any) -> None:
    """Write a JSON file in one step: whole, or not at all."""
    storage_of(path).write(path, json.dumps(value, indent=2).encode() + b"\n")


def all_runs(root: Folder) -> list[RunFolder]:
    """Every run under a root, the one last touched first.

    Raises:
        InputError: the root is a file, or a link to nothing.
    """
    refuse_dangling(root)
    if root.is_file():
        raise InputError(f"{root} is a file, not a folder of runs.")
    return sorted(_folders(root), key=lambda run: _touched(run.path), reverse=True)


def find_run(reference: str, root: Folder) -> RunFolder:
    """The run that a reference names, see `find_checkpoint`."""
    return find_checkpoint(reference, root)[0]


def find_checkpoint(reference: str, root: Folder) -> tuple[RunFolder, int | None]:
    """The run that a reference names, and the checkpoint if it names one: a folder or URL, an id or the beginning of
    one, a --run name, an alias (which alone names a checkpoint), `latest`, or `best:METRIC@PART`.

    Raises:
        InputError: nothing or more than one run fits; names the nearest.
    """
    if not reference:
        raise InputError("the run's name is empty. Write an id, a name, an alias, a folder, or `latest`.")
    folder = folder_at(reference)
    if (folder / CONFIG).is_file():
        return RunFolder(folder), None
    refuse_dangling(folder)
    runs = all_runs(root)
    if not runs:
        raise InputError(f"there are no runs in {root}. Train one first: lingshu train EXPERIMENT --store STORE")
    if reference == "latest":
        return runs[0], None
    if reference.startswith("best:"):
        from experiments.registry.reference import best_run

        return best_run(reference, runs), None
    from experiments.registry.aliases import read_alias

    exact = [run for run in runs if reference in (run.id, run.name)]
    alias = read_alias(root, reference)
    if alias is not None and not exact:
        return alias.folder(root), alias.step
    if alias is not None:
        raise InputError(f"{reference!r} is an alias, of {alias.run}, and a run. Write {exact[0].name} or {alias.run}.")
    return _fitting(reference, exact or [run for run in runs if run.id.startswith(reference)], runs, root), None


def _fitting(reference: str, fitting: list[RunFolder], runs: list[RunFolder], root: Folder) -> RunFolder:
    """The one run that a reference fits."""
    from experiments.registry.aliases import all_aliases

    if len(fitting) > 1:
        names = ", ".join(run.name for run in fitting[:4])
        raise InputError(f"{reference!r} fits {len(fitting)} runs ({names}). Write more of the one you mean.")
    if not fitting:
        for folder in root.glob("*/*"):
            if folder.name == reference:
                refuse_dangling(folder)
        names = nearest(reference, [*(run.id for run in runs), *(alias.name for alias in all_aliases(root))])
        raise InputError(f"no run {reference!r} in {root} (nearest: {names}). List them with: lingshu runs")
    return fitting[0]


def _folders(root: Folder) -> Iterator[RunFolder]:
    for config in root.glob(f"*/*/{CONFIG}"):
        yield RunFolder(config.parent)


def _touched(path: Folder) -> float:
    return max(storage_of(path).modified(entry) for entry in (path, path / CONFIG, *path.glob("metrics.jsonl")))
