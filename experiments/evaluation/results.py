"""What an evaluation found: a tree of plain values, saved as JSON, and the arrays its pictures are drawn from."""

import dataclasses
import hashlib
import io
import json
from typing import Any

import numpy as np

from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from data_pipelines.npz import read_npz
from experiments.evaluation.plain import plain, typed
from experiments.storage import Folder, storage_of

FORMAT = 1
METRICS_FILE = "metrics.json"
FIGURES_FILE = "figures.npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, where one can be given."""

    value: float | None = None
    """None: not applicable."""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """What it averages over: cells, perturbations or conditions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundRow:
    """One likelihood on the held-out cells."""

    name: str
    nats: Estimate
    """Nats per cell."""
    nats_per_gene: float
    difference: Estimate | None = None
    """Model minus this baseline, paired on the same cells; below 0 the model wins. None for the model itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One method in a table of plain numbers."""

    name: str
    n: int
    """Cells of this method that were used."""
    values: dict[str, float | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One method's scores on perturbation effects: per context, then averaged over contexts."""

    name: str
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    minus_mean_effect: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """Paired differences from `mean_effect` on the same conditions (bootstrap over perturbations)."""
    minus_transfer: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """Paired differences from `perturbation_transfer` on the same conditions."""
    pds_p: float | None = None
    """Share of label permutations whose mean PDS is at least this one's."""
    above_ceiling: bool = False
    """Pearson-delta above the limit of a noise-free prediction: look for a leak."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionRow:
    """One held-out condition."""

    context: str
    perturbation: str
    n_real: int
    n_generated: int
    n_training: int
    """Training cells of the same condition; 0 for a held-out combination."""
    scored: bool
    reason: str = ""
    """Why it is not scored."""
    metrics: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    """Method -> metric -> value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectTable:
    """Perturbation effects: methods, conditions, and what they were measured against."""

    rows: tuple[EffectRow, ...]
    conditions: tuple[ConditionRow, ...]
    candidates: dict[str, int]
    """Context -> number of perturbations that PDS ranks among."""
    controls: dict[str, tuple[int, int]]
    """Context -> held-out control cells behind predictions and behind the truth (disjoint)."""
    ceiling: float | None
    """Limit of a noise-free prediction's Pearson-delta, sqrt(2r / (1 + r)) with r the split-half correlation."""
    fewest_cells: int = 30
    """Real held-out cells that a condition needed to be scored."""
    fewest_controls: int = 20
    """Held-out controls that its context needed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChallengeRow:
    """One method's scores by the field's evaluator: per context, then averaged over contexts."""

    name: str
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    """Column -> value; a column that the method has no cells for is missing."""
    average: Estimate = Estimate()
    """Of the columns that are averaged, relative to the baseline; no value where a column is missing."""
    cells: int | None = None
    """Median generated cells of a condition behind columns on pseudobulks; None for a constant prediction."""
    de_cells: int | None = None
    """The same behind columns on differential expression: no more than the truth has."""
    conditions: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChallengeTable:
    """Every method through one preset of the field's evaluator."""

    preset: str
    rows: tuple[ChallengeRow, ...]
    columns: tuple[str, ...]
    de_columns: tuple[str, ...]
    lower: tuple[str, ...]
    """Columns where lower is better."""
    averaged: tuple[str, ...]
    """Columns behind the average."""
    baseline: str
    """The method that scores 0 on the average."""
    real_cells: int
    """Median real cells of a condition."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollapseRow:
    """How much one method's predictions depend on the perturbation."""

    name: str
    share: float
    """Variance of its effects between perturbations over that of the real ones; 0 one effect for all, 1 as real."""
    contexts: dict[str, float] = dataclasses.field(default_factory=dict)
    """The same per context."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationRow:
    """Where real counts of one expression level fall among a method's counts of the same condition."""

    name: str
    level: str
    genes: int
    n: int
    """Real counts that were placed."""
    shares: tuple[float, ...]
    """Histogram over equal bins of 0..1; flat where calibrated."""
    error: float
    """Largest gap of its distribution function to the flat one; 0 is calibrated."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlantedRow:
    """Share of the strong planted effects whose sign a method gets right."""

    name: str
    share: Estimate
    effects: int
    """Strong planted effects looked at."""
    unpredicted: int
    """Those for which the method predicts no change or cannot predict; they count as wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InjectedGene:
    """A gene that generated cells were told: mean counts, over the conditions it was injected under."""

    gene: str
    conditions: int
    """Number of conditions that it was injected under."""
    generated: float | None
    control: float | None
    """Of training controls of the contexts."""
    real: float | None
    """Of real held-out cells of the conditions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InjectedTable:
    """What the injected genes are, and what effects are worth without them."""

    genes: tuple[InjectedGene, ...]
    effects: tuple[EffectRow, ...]
    """As in `EffectTable`, on the genes that were not injected under the condition."""
    planted: tuple[PlantedRow, ...] = ()
    """Planted effects at such genes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composition:
    """Shares of a label among real and generated cells, labels given by one classifier to both."""

    column: str
    labels: tuple[str, ...]
    shares: dict[str, tuple[float, ...]]
    """Method -> share per label."""
    accuracy: dict[str, float | None]
    """Method -> share of cells that the classifier gives the label they carry; None where cells carry none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Colouring:
    """Labels of the cells of one picture."""

    column: str
    labels: tuple[str, ...]
    """Behind the codes 0, 1, ...; -1 is a cell without one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureLabels:
    """Names behind the coded arrays of the pictures."""

    umap: tuple[Colouring, ...] = ()
    """Of `umap_code_SIDE_i`."""
    umap_markers: tuple[str, ...] = ()
    """Genes behind the columns of `umap_marker_SIDE`."""
    delta_conditions: tuple[str, ...] = ()
    cell_methods: tuple[str, ...] = ()
    """Methods with `library_<i>` and `zero_fraction_<i>` arrays."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything one evaluation found, bound to the data it came from."""

    store_hash: str
    split_name: str
    split_kind: str
    split_hash: str
    part: str
    seed: int
    n_genes: int
    n_real: int
    n_generated: int
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of the generated cells, as the sampler wrote it."""
    step: int | None = None
    """The checkpoint whose bound this is: the one that the cells were drawn from, where they are the run's own."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else was asked for, as `EvaluationSettings`."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    bound: tuple[BoundRow, ...] = ()
    """The model first, then the baselines."""
    distribution: tuple[MetricRow, ...] = ()
    cells: tuple[MetricRow, ...] = ()
    composition: Composition | None = None
    effects: EffectTable | None = None
    challenge: tuple[ChallengeTable, ...] = ()
    collapse: tuple[CollapseRow, ...] = ()
    calibration: tuple[CalibrationRow, ...] = ()
    planted: tuple[PlantedRow, ...] = ()
    injected: InjectedTable | None = None
    """None where no gene was injected."""
    pictures: PictureLabels = PictureLabels()
    notes: tuple[str, ...] = ()
    """What a reader must know to read the numbers."""
    definitions: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float | None = dataclasses.field(default=None, compare=False)
    """Wall time of the job: of drawing the cells too, where the whole job drew them."""
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, compare=False, repr=False)
    """What the pictures are drawn from; saved beside the numbers."""

    def headline(self) -> list[str]:
        """The main numbers as a few lines of text, the model beside what it has to beat."""
        lines = [
            f"nats per cell, {row.name}: {_text(row.nats, 1)} (lower is better)"
            for row in self.bound
            if row.name.startswith("model")
        ]
        lines += [
            f"nats per cell: model minus {row.name} {_text(row.difference, 1)}" for row in self.bound if row.difference
        ]
        for row in self.effects.rows if self.effects else ():
            if row.name in ("model", "mean_effect", "perturbation_transfer", "additive", "real vs real"):
                scores = ", ".join(f"{key} {_text(row.metrics[key], 3)}" for key in ("pearson_delta", "pds", "mae"))
                lines.append(f"effects, {row.name}: {scores}")
        lines += [
            f"variance between perturbations over the real one, {row.name}: {row.share:.2f} (1 is as real, 0 collapsed)"
            for row in self.collapse
            if row.name == "model"
        ]
        for table in self.challenge:
            for row in table.rows:
                if row.name == "model":
                    scores = ", ".join(f"{key} {_text(row.metrics[key], 3)}" for key in table.columns)
                    lines.append(f"{table.preset}, model: average {_text(row.average, 3)}; {scores}")
        lines += [
            f"planted signs right, {row.name}: {_text(row.share, 3)}" for row in self.planted if row.name == "model"
        ]
        for row in self.injected.effects if self.injected else ():
            if row.name in ("model", "mean_effect"):
                scores = ", ".join(f"{key} {_text(row.metrics[key], 3)}" for key in ("pearson_delta", "pds", "mae"))
                lines.append(f"effects without injected genes, {row.name}: {scores}")
        for row in self.cells:
            if row.name in ("real", "model"):
                median, spread = row.values["library_median"], row.values["library_log_sd"]
                lines.append(
                    f"library size, {row.name}: median {median:,.0f}, sd of log {spread:.2f} ({row.n:,} cells)"
                )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays; NaN and infinities become null."""
        tree = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "arrays"}
        return plain(tree)

    def save(self, folder: Folder) -> None:
        """Write figures.npz and then metrics.json, each in one step, so a half-written evaluation never loads."""
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays)  # type: ignore[arg-type]
        figures = buffer.getvalue()
        tree = {"format": FORMAT, "figures_digest": _digest(figures), **self.to_json()}
        storage = storage_of(folder)
        storage.write(folder / FIGURES_FILE, figures)
        storage.write(folder / METRICS_FILE, (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Folder) -> "Evaluation":
        """Read a saved evaluation.

        Raises:
            InputError: none is there, it is of another format, or its two files do not belong together.
        """
        path = folder / METRICS_FILE
        if not path.is_file():
            raise InputError(f"no evaluation in {folder}: {METRICS_FILE} is missing. Run `lingshu evaluate` first.")
        try:
            tree = json.loads(path.read_text())
            check_format(str(path), tree.pop("format"), FORMAT, "Run `lingshu evaluate --again`.")
            figures = (folder / FIGURES_FILE).read_bytes() if (folder / FIGURES_FILE).is_file() else b""
            if _digest(figures) != tree.pop("figures_digest"):
                raise InputError(f"{folder / FIGURES_FILE} does not belong to {path}. Run `lingshu evaluate --again`.")
            return dataclasses.replace(typed(cls, tree), arrays=read_npz(figures))
        except InputError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise InputError(f"{path} is damaged ({error}). Run `lingshu evaluate --again`, or remove it.") from error


def _text(estimate: Estimate, digits: int) -> str:
    if estimate.value is None:
        return "n/a"
    interval = "" if estimate.low is None else f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
    return f"{estimate.value:.{digits}f}{interval}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
