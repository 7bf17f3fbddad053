"""The registry itself: run folders written into MLflow, again and again with the same result."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from data_pipelines.partial import unfinished
from experiments.registry.jobs import Point, Record
from experiments.registry.place import RegistryPlace
from experiments.registry.records import ALIAS, TRAIN, RunRecords

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN, RECORD, ROOT, DIGEST, POINTS = (f"lingshu.{name}" for name in ("run", "record", "root", "digest", "points"))
"""Tags by which what is in the registry is found again."""
PARENT = "mlflow.parentRunId"
EXPERIMENTS = "lingshu/"
"""Prefix of the names of MLflow experiments."""
_VALUE, _TAG, _BATCH, _SETTINGS = 6000, 5000, 1000, 100
"""MLflow's limits: characters of a parameter and a tag, metrics and parameters of one request."""
_PATIENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclasses.dataclass(frozen=True)
class MlflowIndex:
    """An MLflow tracking server, or a file."""

    client: "MlflowClient"

    @classmethod
    def open(cls, place: RegistryPlace) -> "MlflowIndex":
        """Connect; a file is made where there is none."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        import logging

        from mlflow.tracking import MlflowClient

        # What goes wrong is told by who catches it, in one line; theirs are pages.
        for name in ("mlflow", "alembic", "sqlalchemy"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if place.file is not None and not place.file.exists():
            _make(place)
        return cls(MlflowClient(tracking_uri=place.uri))

    def sync(self, records: RunRecords, *, running: bool = False) -> None:
        """Write what the registry does not have yet of a run, and remove what the run folder has no longer.

        Args:
            records: of the run folder.
            running: it is being trained.
        """
        experiment = self._experiment(records.experiment)
        known = self._known(experiment, f"tags.`{RUN}` = '{records.key}'")
        parent = self._train(experiment, records, known.pop(TRAIN, None), running)
        for job in records.jobs:
            there = known.get(job.key)
            found = {} if there is None else there.data.tags
            if (found.get(DIGEST), found.get(PARENT)) == (job.digest, parent):
                del known[job.key]
            else:
                self._job(experiment, records, job, parent)
        for gone in known.values():
            self.client.delete_run(gone.info.run_id)

    def forget(self, root: str, keys: Iterable[str]) -> None:
        """Remove every run of a folder of runs, and those with these keys."""
        wanted = set(keys)
        experiments = [found for found in self._experiments() if found.name.startswith(EXPERIMENTS)]
        for found in experiments:
            for run in self._search(found.experiment_id, f"tags.`{RECORD}` != ''"):
                if run.data.tags.get(ROOT) == root or run.data.tags.get(RUN) in wanted:
                    self.client.delete_run(run.info.run_id)

    def _experiments(self) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_experiments(page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        name = EXPERIMENTS + name
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name)
            except MlflowException:  # another process was first
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _known(self, experiment: str, query: str) -> dict[str, Any]:
        """MLflow's runs by record. Of two that processes of two machines made at once, one is kept."""
        found: dict[str, Any] = {}
        for run in sorted(self._search(experiment, query), key=lambda run: run.info.run_id):
            key = run.data.tags.get(RECORD, "")
            if key in found:
                self.client.delete_run(run.info.run_id)
            else:
                found[key] = run
        return found

    def _search(self, experiment: str, query: str) -> list[Any]:
        found, token = [], None
        while True:
            page = self.client.search_runs([experiment], query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _train(self, experiment: str, records: RunRecords, there: Any, running: bool) -> str:
        """The run's own MLflow run: its id."""
        from mlflow.entities import RunTag

        record = records.train
        wanted = _tags(record) | {ROOT: records.root}
        if there is None:
            there = self._create(experiment, records, record, records.started, wanted)
        run_id, tags = there.info.run_id, there.data.tags
        changed = [RunTag(name, value) for name, value in wanted.items() if tags.get(name) != value]
        for some in itertools.batched(changed, _SETTINGS):
            self.client.log_batch(run_id, tags=list(some))
        for name in tags:
            if name.startswith(ALIAS) and name not in wanted:
                self.client.delete_tag(run_id, name)
        self._points(run_id, record.points, tags.get(POINTS, ""))
        status = "RUNNING" if running else "FINISHED" if records.finished else "KILLED"
        if there.info.status != status or (not running and there.info.end_time != record.ended):
            if running:
                self.client.update_run(run_id, status)
            else:
                self.client.set_terminated(run_id, status, record.ended)
        return run_id

    def _points(self, run_id: str, points: tuple[Point, ...], marked: str) -> None:
        """Metrics that are not there yet: those behind the mark, all where what is before it has changed."""
        count = int(marked.partition(":")[0] or 0)
        first = count if 0 < count <= len(points) and _mark(points[:count]) == marked else 0
        if points and first < len(points):
            self._log_points(run_id, points[first:])
            self.client.set_tag(run_id, POINTS, _mark(points))

    def _log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """What is there already, value and time, is not written twice: MLflow sees to that."""
        from mlflow.entities import Metric

        for some in itertools.batched(points, _BATCH):
            metrics = [Metric(_name(one.name), one.value, one.time, one.step) for one in some]
            self.client.log_batch(run_id, metrics=metrics)

    def _job(self, experiment: str, records: RunRecords, job: Record, parent: str) -> None:
        run = self._create(experiment, records, job, job.ended, {PARENT: parent, ROOT: records.root, **_tags(job)})
        self._log_points(run.info.run_id, job.points)
        self.client.set_tag(run.info.run_id, DIGEST, job.digest)
        self.client.set_terminated(run.info.run_id, "FINISHED", job.ended)

    def _create(self, experiment: str, records: RunRecords, record: Record, started: int, tags: dict[str, str]) -> Any:
        from mlflow.entities import Param

        keys = {RUN: records.key, RECORD: record.key}
        name = record.name if record is records.train else f"{records.train.name} {record.name}"
        run = self.client.create_run(experiment, started, tags | keys, name)
        for some in itertools.batched(record.params.items(), _SETTINGS):
            self.client.log_batch(run.info.run_id, params=[Param(_name(name), value[:_VALUE]) for name, value in some])
        return run


def _tags(record: Record) -> dict[str, str]:
    return {_name(name): value[:_TAG] for name, value in record.tags.items()}


def _name(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", name)[:250]


def _mark(points: tuple[Point, ...]) -> str:
    digest = hashlib.blake2b(repr(points).encode(), digest_size=8)
    return f"{len(points)}:{digest.hexdigest()}"


def _make(place: RegistryPlace) -> None:
    """Make the tables of a file whole, or not at all, with a write-ahead log: readers do not wait for the writer."""
    from mlflow.tracking import MlflowClient

    assert place.file is not None
    place.file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        partial = stack.enter_context(unfinished(place.file))
        for suffix in ("-wal", "-shm", "-journal"):
            stack.callback(partial.with_name(partial.name + suffix).unlink, missing_ok=True)
        MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
        with contextlib.closing(sqlite3.connect(partial)) as file:
            file.execute("pragma wal_checkpoint(truncate)")
            file.execute("pragma journal_mode=wal")
        partial.replace(place.file)
