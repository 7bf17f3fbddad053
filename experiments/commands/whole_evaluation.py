"""`lingshu evaluate RUN --whole`: cells, metrics, baselines and report in one job; what is done already is skipped."""

import dataclasses
import time
from typing import TYPE_CHECKING

from data_pipelines.errors import InputError
from experiments.commands.evaluate import Evaluate, say
from experiments.commands.recording import note_sample, recording
from experiments.commands.report import say as say_page
from experiments.commands.report import write_page
from experiments.commands.sample import check_number, request_name, split_conditions
from experiments.commands.train import join_processes
from experiments.commands.writing import A_WEEK, is_leader, write
from experiments.progress import StageProgress
from experiments.storage import storage_of

if TYPE_CHECKING:
    from experiments.load import LoadedRun
    from experiments.simulation.request import SampleRequest


def evaluate_whole(options: Evaluate) -> int:
    """Draw, evaluate and report; of several processes all draw, and process 0 does the rest."""
    if options.samples is not None:
        raise InputError("--whole draws the cells itself. Leave --samples out, or --whole.")
    check_number(options.n)
    join_processes(options.distributed)

    from experiments.load import load_run
    from lingshu_jax.parallel.distributed import barrier

    loaded = load_run(options.run, runs=options.runs, step=options.step)
    with recording(loaded.folder), StageProgress() as progress:
        request = _request(options, loaded, progress)
        _draw_and_evaluate(options, loaded, request, progress)
        if is_leader():
            say_page(write_page(loaded.folder, options.out))
    barrier("evaluated", seconds=A_WEEK)
    return 0


def _request(options: Evaluate, loaded: "LoadedRun", progress: StageProgress) -> "SampleRequest":
    from experiments.prior import parse_prior
    from experiments.simulation.request import SampleRequest

    table = split_conditions(loaded, options.split, options.n, options.store)
    prior = parse_prior(options.prior)
    return SampleRequest.make(
        loaded, table, options.sampler, options.seed, options.unseen, prior, options.store, progress
    )


def _draw_and_evaluate(
    options: Evaluate, loaded: "LoadedRun", request: "SampleRequest", progress: StageProgress
) -> None:
    from experiments.evaluation.job import evaluate_run, there_already
    from lingshu_jax.parallel.distributed import lead

    started = time.monotonic()
    folder, settings, name = loaded.folder, options.settings(), request_name(options.split, request)
    out, samples = folder.evaluations / name, folder.samples / f"{name}.h5ad"
    there = None if options.again else there_already(out, request.hash, settings, part=options.split, run=folder)
    if lead("evaluation", lambda: there is not None):
        if is_leader() and there is not None:
            say(there, out, was_there=True)
        return
    write(request, samples, progress)
    if not is_leader():
        return
    note_sample(request, samples, name)
    with storage_of(samples).reading(samples) as file:
        found = evaluate_run(
            folder, file, settings, part=options.split, run=loaded, store_path=options.store, progress=progress
        )
    found = dataclasses.replace(found, seconds=time.monotonic() - started)
    found.save(out)
    say(found, out)
