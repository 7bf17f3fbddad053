"""What `lingshu runs` does beside showing: aliases, the registry made anew, MLflow's page of it."""

import importlib.metadata
import os
import sys
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.commands.options import Place
from experiments.commands.recording import recording
from experiments.registry.place import SERVER, SWITCH, RegistryPlace


def change_aliases(runs: Place, verb: str, arguments: Sequence[str], step: int | None) -> int:
    """List the aliases, or set or remove one."""
    from experiments.registry.aliases import all_aliases, read_alias, remove_alias, set_alias
    from experiments.runs import CONFIG, RunFolder, all_runs, find_checkpoint

    if not arguments:
        for alias in all_aliases(runs):
            missing = alias.missing(runs)
            print(f"{alias.name}: {alias.run}, step {alias.step:,}" + (f" ({missing} is gone)" if missing else ""))
        return 0
    RegistryPlace.of(runs)  # refuses before anything has changed
    name, before = arguments[0], read_alias(runs, arguments[0])
    if verb == "alias":
        run, named = find_checkpoint(arguments[1], runs)
        alias = set_alias(runs, name, run, named if step is None else step, all_runs(runs))
        print(
            f"{name}: {alias.run}, step {alias.step:,}"
            + (f" (was {before.run}, step {before.step:,})" if before else "")
        )
    else:
        remove_alias(runs, name)
        alias = None
        print(f"{name} is no alias any more")
    for changed in {entry.run for entry in (before, alias) if entry is not None}:
        if (runs / changed / CONFIG).is_file():  # a run may be gone, and its alias is then removed
            with recording(RunFolder(runs / changed)):
                pass
    return 0


def rebuild(runs: Place) -> int:
    """Write every run folder into an empty registry."""
    place = _place(runs)

    from experiments.registry.rebuild import rebuild_index
    from experiments.runs import all_runs

    if not runs.is_dir():
        raise InputError(f"{runs} is no folder of runs. Pass --runs RUNS.")
    found = rebuild_index(place, runs, all_runs(runs))
    print(f"{place.shown}: {found.runs:,} runs and {found.jobs:,} of their jobs recorded")
    return 0


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def serve(runs: Place, port: int) -> int:
    """Run MLflow's server on this machine's loopback address until it is interrupted."""
    place = _place(runs)
    if not 0 < port < 2**16:
        raise InputError(f"--port must lie in 1..{2**16 - 1}, got {port}.")
    if place.file is None:
        print(f"the registry is a server already: open {place.shown}")
        return 0
    if not place.file.exists():
        raise InputError(f"{place.shown} is not there yet. Make it: lingshu runs --rebuild")
    if not has_page():
        raise InputError(
            "MLflow's page needs the `ui` extra. Run: pip install 'lingshu-jax[ui]', or `make ui` in a clone."
        )
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place.uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(place.file.parent / "artifacts")]
    print(f"the registry of {runs}: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    os.execve(sys.executable, command, _QUIET | os.environ)


def has_page() -> bool:
    """Whether MLflow is here with its server and page, not its client alone."""
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _place(runs: Place) -> RegistryPlace:
    place = RegistryPlace.of(runs)
    if place is None:
        raise InputError(f"the registry is switched off by {SWITCH}=none. Leave that out; {SERVER} names a server.")
    return place
