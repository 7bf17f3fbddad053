"""A job's side of the registry: starts the process that writes it, and never waits long or fails for it."""

import os
import pathlib
import subprocess
import sys
from typing import Any

from experiments.load import warn
from experiments.registry.place import RegistryPlace
from experiments.registry.record import TRAINING
from experiments.runs import RunFolder
from experiments.storage import absolute

PATIENCE_SECONDS = 30.0


class Recorder:
    """A context manager: between `start` and the end of the context a run folder is kept up to date in the registry."""

    def __init__(self, run: RunFolder, *, training: bool = False, patience: float | None = None):
        """Nothing starts yet.

        Args:
            run: the run folder.
            training: write at intervals, not only at the end.
            patience: seconds to wait at the end for what is not written yet; PATIENCE_SECONDS where not given.

        Raises:
            InputError: the registry is switched neither on nor off.
        """
        self._run, self._training = run, training
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._place = RegistryPlace.of(run.root)
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> "Recorder":
        """Start the process, unless the registry is switched off."""
        if self._place is None or self._process is not None:
            return self
        path = str(absolute(self._run.path))
        command = [sys.executable, "-m", "experiments.registry.record", path, *([TRAINING] if self._training else [])]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, env=_environment()
            )
        except OSError as error:
            warn(f"the registry is not written: its process does not start ({error}).")
        return self

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None and self._place is not None
        self._process.stdin.close()
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            warn(
                f"the registry {self._place.shown} has not answered for {self._patience:.0f} s. The run folder keeps "
                f"everything; the run's next job writes it, or: lingshu runs --rebuild"
            )
        finally:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """This process's, so that the modules are found where they were found here."""
    package = pathlib.Path(__file__).parent.parent.parent
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{known}" if known else str(package)}
