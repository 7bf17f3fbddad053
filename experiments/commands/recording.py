"""What commands leave for the registry: a process that writes it while they work, and a note of drawn cells."""

from typing import TYPE_CHECKING

from experiments.commands.writing import is_leader
from experiments.load import warn
from experiments.registry.recorder import Recorder
from experiments.runs import RunFolder, write_json
from experiments.storage import Folder, absolute

if TYPE_CHECKING:
    from experiments.simulation.request import SampleRequest


def recording(run: RunFolder) -> Recorder:
    """A context at whose end the registry has what the run folder has; only process 0 writes."""
    recorder = Recorder(run)
    return recorder.start() if is_leader() else recorder


def note_sample(request: "SampleRequest", out: Folder, name: str) -> None:
    """Write samples/NAME.json into the run folder: what was drawn, and where it is, wherever that may be."""
    folder = request.run.folder.samples
    note = {
        "file": str(absolute(out)),
        "cells": request.n_cells,
        "conditions": len(request.table),
        "request": request.hash,
        "provenance": request.provenance | {"cells_per_condition": request.cells_per_condition},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", note)
    except OSError as error:  # the cells are there, and the run folder may be read-only
        warn(
            f"{folder / name}.json cannot be written ({error.strerror or error}): these cells are not in the registry."
        )
