"""A sweep: one request drawn with many samplers, each one's cells summed up beside the real ones, and none kept."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress, silent
from experiments.config_json import to_json
from experiments.evaluation.cells import Cells
from experiments.evaluation.composition import compare_composition
from experiments.evaluation.effects import Generated, evaluate_effects
from experiments.evaluation.held_out import HeldOut, read_held_out
from experiments.evaluation.likelihood import TrainingSide
from experiments.evaluation.populations import MODEL, REAL, REPLICATE, cell_table, distribution_table
from experiments.evaluation.sides import Sides
from experiments.evaluation.sweep_rows import Sweep, SweepRow
from experiments.evaluation.training_effects import TrainingEffects
from experiments.prior import NoPrior
from experiments.simulation.request import SampleRequest
from experiments.storage import Folder
from lingshu_jax.diffusion import ControlGuidance, NoGuidance, NullGuidance, SamplerConfig
from lingshu_jax.diffusion.schedule import CosineSchedule, GeometricSchedule, LinearSchedule
from lingshu_jax.vocabulary import content_hash

if TYPE_CHECKING:
    import pandas

    from experiments.load import LoadedRun

SCHEDULES = {"geometric": GeometricSchedule, "cosine": CosineSchedule, "linear": LinearSchedule}
GUIDANCES = {"control": ControlGuidance, "null": NullGuidance}
EFFECTS = ("pearson_delta", "pds", "mae", "energy_distance")
SHARE_ERROR = "share_error"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Which samplers: every schedule with every number of steps and every guidance scale."""

    schedules: tuple[str, ...] = ("geometric", "cosine")
    steps: tuple[int, ...] = (3, 8, 32)
    scales: tuple[float, ...] = (0.0,)
    guidance: str = "control"

    def __post_init__(self) -> None:
        for name, known in (("schedules", SCHEDULES), ("guidance", GUIDANCES)):
            value = getattr(self, name)
            wrong = [entry for entry in ((value,) if isinstance(value, str) else value) if entry not in known]
            if wrong:
                raise InputError(f"--{name} {wrong[0]!r} is none of {', '.join(known)}.")
        if not (self.schedules and self.steps and self.scales) or min(self.steps, default=0) < 1:
            raise InputError("--schedules, --steps and --scales need at least one entry each, and steps are >= 1.")

    def samplers(self, base: SamplerConfig) -> Iterator[tuple[str, SamplerConfig]]:
        """(name of the schedule, sampler), the cheapest first; everything else is the base's."""
        for steps, schedule, scale in itertools.product(sorted(self.steps), self.schedules, self.scales):
            guidance = _as(GUIDANCES[self.guidance], base.guidance, scale=scale) if scale else NoGuidance()
            changed = _as(SCHEDULES[schedule], base.schedule, steps=steps)
            yield schedule, dataclasses.replace(base, schedule=changed, guidance=guidance)


def _as(kind: Any, base: Any, **values: Any) -> Any:
    """The base with these values where it is of this kind, else the kind with them."""
    return dataclasses.replace(base, **values) if type(base) is kind else kind(**values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepJob:
    """What is drawn again and again, and what it is compared with."""

    run: "LoadedRun"
    store: Any
    split: Any
    statistics: Any
    table: "pandas.DataFrame"
    """Condition fields and n_cells."""
    part: str
    seed: int

    @property
    def path(self) -> Folder:
        """Where the rows go: the same request finds those that are there."""
        request = [self.run.step, self.part, self.seed, self.table.to_dict("list"), self.split.hash]
        name = f"{self.part}-{self.run.step}-{content_hash(request, digits=6)}.json"
        return self.run.folder.sweeps / name

    def known(self) -> Sweep:
        """The rows that are there, none at first."""
        if self.path.is_file():
            return Sweep.load(self.path)
        return Sweep(
            step=self.run.step, part=self.part, seed=self.seed, split_hash=self.split.hash, conditions=len(self.table)
        )


def sweep(
    job: SweepJob,
    samplers: Iterable[tuple[str, SamplerConfig]],
    *,
    progress: Progress = silent,
    told: Callable[[SweepRow], None] = lambda row: None,
) -> Sweep:
    """Draw the job's cells with every sampler, and sum each up; rows that are there are not drawn again.

    Args:
        job: the job.
        samplers: (name of the schedule, sampler).
        progress: called as progress(stage, done, total).
        told: each new row as soon as it is saved.

    Returns:
        The rows of these samplers, in this order.

    Raises:
        InputError: a sampler is impossible for the run, before anything is drawn.
    """
    asked = [(name, sampler, _request(job, sampler, progress)) for name, sampler in samplers]
    found = job.known()
    if all(found.row(sampler) for _, sampler, _ in asked):
        return found.of([sampler for _, sampler, _ in asked])
    comparison = _Comparison.read(job, progress)
    for name, sampler, request in asked:
        if found.row(sampler) is None:
            reference, row = comparison.row(name, request, progress)
            found = dataclasses.replace(found, reference=reference, rows=(*found.rows, row))
            found.save(job.path)
            told(row)
    return found.of([sampler for _, sampler, _ in asked])


def _request(job: SweepJob, sampler: SamplerConfig, progress: Progress) -> SampleRequest:
    return SampleRequest.make(job.run, job.table, sampler, job.seed, "error", NoPrior(), None, progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Comparison:
    """What every sampler's cells are compared with."""

    job: SweepJob
    training: TrainingSide
    effects: TrainingEffects | None
    held_out: HeldOut | None

    @classmethod
    def read(cls, job: SweepJob, progress: Progress) -> "_Comparison":
        store, split, statistics = job.store, job.split, job.statistics
        effects = held_out = None
        if store.columns.perturbation is not None:
            effects = TrainingEffects.read(store, split, statistics, seed=job.seed, progress=progress)
            held_out = read_held_out(store, split, statistics, effects, job.part, np.random.default_rng(job.seed))
        training = TrainingSide.read(store, split, statistics, job.seed)
        return cls(job=job, training=training, effects=effects, held_out=held_out)

    def row(self, name: str, request: SampleRequest, progress: Progress) -> tuple[tuple[SweepRow, ...], SweepRow]:
        """The real cells' rows and a sampler's."""
        job, sampler = self.job, request.sampler
        begun = time.perf_counter()
        cells = request.anndata(progress)
        seconds = time.perf_counter() - begun
        sides = Sides.read(
            job.store, job.split, job.statistics, cells, part=job.part, seed=job.seed, training=self.training
        )
        values = self._values(sides, progress)
        shares = self._share_error(sides)
        row = SweepRow(
            name=name,
            steps=sampler.schedule.steps,
            scale=getattr(sampler.guidance, "scale", 0.0),
            sampler=to_json(sampler),
            n=len(sides.model),
            seconds=seconds,
            values=values[MODEL] | {SHARE_ERROR: shares},
        )
        reference = [SweepRow(name=side, n=len(sides.real), values=values[side]) for side in (REAL, REPLICATE)]
        return tuple(reference), row

    def _values(self, sides: Sides, progress: Progress) -> dict[str, dict[str, float | None]]:
        """What is measured, by side."""
        rng = np.random.default_rng(self.job.seed + 1)
        found: dict[str, dict[str, float | None]] = {MODEL: {}, REAL: {}, REPLICATE: {}}
        methods = {MODEL: sides.model}
        for row in cell_table(sides.real, methods, rng):
            found[row.name] |= row.values
        for row in distribution_table(sides.real, methods, rng=rng, seed=self.job.seed):
            found[row.name] |= {"mmd": row.values["mmd"]}
        if self.effects is not None and self.held_out is not None and sides.generated_labels is not None:
            generated = Generated.of(sides.generated, sides.generated_labels, self.effects.target_sum)
            seed = self.job.seed
            table, _, _ = evaluate_effects(self.held_out, self.effects, generated, seed=seed, progress=progress)
            for row in table.rows:
                if row.name in found:
                    found[row.name] |= {metric: row.metrics[metric].value for metric in EFFECTS}
        return found

    def _share_error(self, sides: Sides) -> float | None:
        """Largest difference of a label's share between real and generated cells, told by one classifier."""
        both: dict[str, tuple[Cells, np.ndarray | None]] = {REAL: (sides.real, None), MODEL: (sides.model, None)}
        found = compare_composition(self.training, both, column="", seed=self.job.seed)
        if found is None:
            return None
        real, model = (np.array(found.shares[name]) for name in (REAL, MODEL))
        return float(np.abs(real - model).max())
