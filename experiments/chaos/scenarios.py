"""What is disturbed: a command of its user, what it needs, and what must be the same afterwards as without a fault."""

import abc
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import sqlite3
from collections.abc import Mapping
from typing import Any

from experiments.chaos.jobs import free_port
from experiments.runs import RunFolder

STEPS, RUN = 12, "run"
_COLUMNS = (
    "--columns.context cell_line --columns.perturbation target_gene --columns.control non-targeting "
    "--columns.batch gem_group --workers 1"
).split()
_MODEL = (
    "--size tiny --device cpu --model.width 16 --model.heads 1 --model.ffn-width 32 --model.blocks 1 "
    "--model.factors.rank 4 --training.batch-size 32 --training.evaluate-cells 32 --training.evaluate-draws 1 "
    f"--training.steps {STEPS} --training.log-every 1 --training.evaluate-every {STEPS} --training.save-every 2"
).split()
_SAMPLE = "--split test --n 12 --sampler.cells-per-device 32 --sampler.schedule.steps 4".split()
_EVALUATE = "--draws 2 --bound-cells 16 --no-challenge --min-cells 4 --min-controls 4".split()


@dataclasses.dataclass(frozen=True)
class Base:
    """What all scenarios share, made once: a screen, its store, a run of it, and its samples."""

    folder: pathlib.Path

    @property
    def screen(self) -> pathlib.Path:
        return self.folder / "screen.h5ad"

    @property
    def store(self) -> pathlib.Path:
        return self.folder / "cells.store"

    @property
    def runs(self) -> pathlib.Path:
        return self.folder / "runs"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.runs / "perturb" / RUN)

    @property
    def samples(self) -> pathlib.Path:
        return self.folder / "test-samples.h5ad"

    def lay_out_runs(self, runs: pathlib.Path) -> None:
        """A folder of runs, with the compiled programs of all."""
        compiled = self.folder / "compiled"
        compiled.mkdir(exist_ok=True)
        runs.mkdir()
        (runs / ".compilation-cache").symlink_to(compiled)

    def ingest(self, out: pathlib.Path) -> list[str]:
        """The command that makes the store."""
        return ["ingest", str(self.screen), "--out", str(out), *_COLUMNS]

    def train(self, runs: pathlib.Path) -> list[str]:
        """The command that trains the run."""
        return ["train", "perturb", "--store", str(self.store), "--runs", str(runs), "--run", RUN, *_MODEL]

    def sample(self, out: pathlib.Path) -> list[str]:
        """The command that draws cells."""
        return ["sample", RUN, "--runs", str(self.runs), "--out", str(out), *_SAMPLE]


def environment(folder: pathlib.Path) -> dict[str, str]:
    """Of every command: on the CPU, compiled fast and once, without a registry."""
    return {
        "LINGSHU_REGISTRY": "none",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
    }


class Scenario(abc.ABC):
    """A command that makes something in a folder of its own."""

    name: str
    anywhen = 0.4
    """Share of the faults whose moment is drawn from the whole, not from after the work proper has begun."""

    def __init__(self, base: Base) -> None:
        self.base = base

    def fresh(self, folder: pathlib.Path) -> None:
        """Lay out what the command needs in a new folder."""
        folder.mkdir(parents=True)

    @abc.abstractmethod
    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        """The command, of each of its processes."""

    def environment(self, folder: pathlib.Path) -> Mapping[str, str]:
        """More of the environment."""
        return environment(self.base.folder)

    def written_to(self, folder: pathlib.Path) -> pathlib.Path:
        """The folder whose permission may be lost."""
        return folder

    def begun(self, folder: pathlib.Path) -> bool:
        """Whether the command has come to what it is for."""
        return any(folder.iterdir())

    @abc.abstractmethod
    def result(self, folder: pathlib.Path) -> Any:
        """What was made, to be compared; None where nothing is there."""

    def complete(self, found: Any, expected: Any) -> bool:
        """Whether a disturbed command left a whole output."""
        return found == expected

    def leftovers(self, folder: pathlib.Path) -> list[str]:
        """Names that a finished command leaves to nobody's use."""
        return sorted(path.name for path in folder.rglob(".*") if path.name != ".compilation-cache")


class Ingest(Scenario):
    """A store is made, to the byte."""

    name = "ingest"

    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        return [self.base.ingest(folder / "cells.store")]

    def result(self, folder: pathlib.Path) -> Any:
        return digests(folder / "cells.store")

    def complete(self, found: Any, expected: Any) -> bool:
        """The store itself; its split and statistics are made after it, file by file."""
        later = {name for name in expected if name.startswith(("splits/", "statistics/"))}
        there = {name: digest for name, digest in found.items() if not name.endswith(".__lock")}
        return there.items() <= expected.items() and expected.keys() - later <= there.keys()


class Train(Scenario):
    """A run is trained: its losses, step by step, and its last checkpoint."""

    def __init__(self, base: Base, processes: int) -> None:
        super().__init__(base)
        self.processes = processes
        self.name = f"training, {processes} process{'es' if processes > 1 else ''}"

    def fresh(self, folder: pathlib.Path) -> None:
        super().fresh(folder)
        self.base.lay_out_runs(folder / "runs")

    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        command = self.base.train(folder / "runs")
        if self.processes == 1:
            return [command]
        shared = f"--distributed.coordinator localhost:{free_port()} --distributed.processes {self.processes} "
        shared += "--distributed.heartbeat-seconds 10 --distributed.start-seconds 60"
        return [[*command, *shared.split(), "--distributed.process", str(n)] for n in range(self.processes)]

    def written_to(self, folder: pathlib.Path) -> pathlib.Path:
        return folder / "runs" / "perturb"

    def begun(self, folder: pathlib.Path) -> bool:
        return (folder / "runs" / "perturb" / RUN / "metrics.jsonl").exists()

    def result(self, folder: pathlib.Path) -> Any:
        run = RunFolder(folder / "runs" / "perturb" / RUN)
        if not run.saved_steps() or run.saved_steps()[-1] < STEPS:
            return None
        return {entry["step"]: entry["loss"] for entry in run.read_metrics() if "loss" in entry}

    def leftovers(self, folder: pathlib.Path) -> list[str]:
        return [name for name in super().leftovers(folder) if not name.startswith(".zarray")]


class Sample(Scenario):
    """Cells are drawn, to the count."""

    name = "sampling"

    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        return [self.base.sample(folder / "cells.h5ad")]

    def result(self, folder: pathlib.Path) -> Any:
        return cells_digest(folder / "cells.h5ad")


class Evaluate(Scenario):
    """Drawn cells are evaluated: every number."""

    name = "evaluation"
    anywhen = 1.0  # it writes at its end alone

    def fresh(self, folder: pathlib.Path) -> None:
        super().fresh(folder)
        shutil.copytree(self.base.runs, folder / "runs", symlinks=True)
        shutil.copy(self.base.samples, folder / "test-samples.h5ad")

    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        samples = str(folder / "test-samples.h5ad")
        return [["evaluate", RUN, "--runs", str(folder / "runs"), "--samples", samples, *_EVALUATE]]

    def written_to(self, folder: pathlib.Path) -> pathlib.Path:
        return folder / "runs" / "perturb" / RUN

    def result(self, folder: pathlib.Path) -> Any:
        metrics = self.written_to(folder) / "evaluations" / "test-samples" / "metrics.json"
        if not metrics.exists():
            return None
        from experiments.evaluation.results import Evaluation

        Evaluation.load(metrics.parent)
        tree = json.loads(metrics.read_text().replace(str(folder), ""))
        return {name: value for name, value in tree.items() if name not in ("seconds", "created")}


class Registry(Scenario):
    """Run folders are written into the registry: each once, with its state."""

    name = "registry"
    runs = 3

    def fresh(self, folder: pathlib.Path) -> None:
        super().fresh(folder)
        for number in range(self.runs):
            copy = folder / "runs" / "perturb" / f"{RUN}{number}"
            ignored = shutil.ignore_patterns("checkpoints", "evaluations", "samples", ".*")
            shutil.copytree(self.base.run.path, copy, ignore=ignored)
            config = json.loads((copy / "config.json").read_text())
            (copy / "config.json").write_text(json.dumps(config | {"uid": f"uid{number}"}))

    def commands(self, folder: pathlib.Path) -> list[list[str]]:
        return [["runs", "--rebuild", "--runs", str(folder / "runs")]]

    def environment(self, folder: pathlib.Path) -> Mapping[str, str]:
        own = {"XDG_CACHE_HOME": str(folder / "cache"), "LINGSHU_REGISTRY": "", "MLFLOW_TRACKING_URI": ""}
        return {**environment(self.base.folder), **own}

    def written_to(self, folder: pathlib.Path) -> pathlib.Path:
        return folder / "runs"

    def begun(self, folder: pathlib.Path) -> bool:
        return any((folder / "runs").glob("*registry.db*"))

    def result(self, folder: pathlib.Path) -> Any:
        file = folder / "runs" / "registry.db"
        if not file.exists():
            return None
        query = (
            "select r.name, r.status, (select count(*) from metrics m where m.run_uuid = r.run_uuid) "
            "from runs r where r.lifecycle_stage = 'active' order by r.name"
        )
        with contextlib.closing(sqlite3.connect(file)) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            return connection.execute(query).fetchall()


def digests(folder: pathlib.Path) -> dict[str, str] | None:
    """File -> digest of everything under a folder."""
    if not folder.exists():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() for path in files
    }


def cells_digest(path: pathlib.Path) -> str | None:
    """Of the counts and labels of an h5ad."""
    if not path.exists():
        return None
    import anndata

    cells: Any = anndata.read_h5ad(path)
    whole = hashlib.blake2b(cells.obs.to_csv().encode(), digest_size=8)
    for part in (cells.X.data, cells.X.indices, cells.X.indptr):
        whole.update(part.tobytes())
    return whole.hexdigest()
