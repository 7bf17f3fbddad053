"""The report of a run: one self-contained HTML page, pictures and styles inside it."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.errors import InputError
from experiments.evaluation import figures
from experiments.evaluation.diagnostic_pictures import calibration_pictures, collapse_picture
from experiments.evaluation.effect_pictures import delta_pictures, effect_pictures, volcano_pictures
from experiments.evaluation.extras import extra
from experiments.evaluation.limits import limits
from experiments.evaluation.model_card import model_card
from experiments.evaluation.plain import plain
from experiments.evaluation.results import Colouring, Estimate, Evaluation
from experiments.evaluation.sweep_pictures import shown_columns, sweep_pictures
from experiments.evaluation.sweep_rows import Sweep
from experiments.evaluation.umap_pictures import legend_of, marker_pictures, umap_pictures
from experiments.load import warn
from experiments.runs import RunFolder
from experiments.storage import Folder, storage_of

TEMPLATE, SCRIPT = (Path(__file__).with_name(name) for name in ("report.html.jinja", "report.js"))

# key in the results -> column title, digits, True when lower is better
DISTRIBUTION_COLUMNS = {
    "pearson_means": ("Pearson of means", 4, False),
    "spearman_means": ("Spearman of means", 4, False),
    "mmd": ("MMD²", 4, True),
    "w1_sinkhorn": ("W1 (Sinkhorn)", 2, True),
    "ilisi": ("iLISI", 3, False),
    "correlation_error": ("gene-gene error", 3, True),
}
CELL_COLUMNS = {
    "library_median": ("library median", 0, None),
    "library_log_sd": ("sd of log library", 3, None),
    "library_iqr": ("library IQR", 0, None),
    "library_ks": ("library KS", 3, True),
    "zero_median": ("zero fraction, median", 3, None),
    "zero_sd": ("zero fraction, sd", 4, None),
    "zero_ks": ("zero fraction KS", 3, True),
}
EFFECT_COLUMNS = {
    "pearson_delta": ("Pearson-delta", 3, False),
    "pearson_residual": ("less mean effect", 3, False),
    "pds": ("PDS", 3, False),
    "mae": ("MAE", 3, True),
    "energy_distance": ("energy distance", 3, True),
    "mmd": ("MMD²", 3, True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """One evaluation and its pictures."""

    name: str
    evaluation: Evaluation
    umaps: list[tuple[Colouring, list[figures.Picture], list[tuple[str, str]]]]
    """By each labelling: pictures, and (label, colour)."""
    markers: list[figures.Picture]
    populations: list[figures.Picture]
    effects: list[figures.Picture]
    deltas: list[figures.Picture]
    volcanoes: list[figures.Picture]
    calibration: list[figures.Picture]
    headline: list[dict[str, Any]]
    limits: list[str]
    """What speaks against the model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepSection:
    """One sweep and its pictures."""

    sweep: Sweep
    columns: dict[str, tuple[str, int]]
    pictures: list[figures.Picture]


def write_report(
    run_folder: Folder,
    evaluation_folders: Sequence[Folder],
    out: Folder,
    *,
    sweeps: Sequence[Folder] = (),
) -> Folder:
    """Write the report of a run, its evaluations and its sweeps.

    Args:
        run_folder: holds config.json, environment.json and metrics.jsonl; each may be missing.
        evaluation_folders: as `Evaluation.save` wrote them, the most important first; may be empty.
        out: the HTML file; replaced in one step. The same data as JSON stand beside it: `numbers_of(out)`.
        sweeps: files of `Sweep.save`.

    Returns:
        `out`.

    Raises:
        InputError: the run folder or every evaluation is damaged, or the `eval` extra is not installed.
    """
    if not run_folder.is_dir():
        raise InputError(f"no run folder {run_folder}. `lingshu runs` lists the runs there are.")
    evaluations = list(_readable(evaluation_folders))
    found = [Sweep.load(file) for file in sweeps]
    jinja2 = extra("jinja2")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": _number, "estimate": _estimate, "pretty": _pretty}
    history = RunFolder(run_folder).read_metrics()
    sections = [_section(name, evaluation) for name, evaluation in evaluations]
    facts = {
        "run": run_folder.name,
        "experiment": run_folder.parent.name,
        "config": _json(run_folder / "config.json"),
        "environment": _json(run_folder / "environment.json"),
    }
    facts["card"] = model_card(f"{facts['experiment']}/{facts['run']}", facts["config"], evaluations)
    page = environment.from_string(TEMPLATE.read_text()).render(
        **facts,
        script=SCRIPT.read_text(),
        steps=_last(history, "step"),
        seconds=_last(history, "seconds"),
        training=_training_pictures(history, evaluations[0][1] if evaluations else None),
        sections=sections,
        sweeps=[_sweep_section(sweep) for sweep in found],
        distribution_columns=DISTRIBUTION_COLUMNS,
        cell_columns=CELL_COLUMNS,
        effect_columns=EFFECT_COLUMNS,
    )
    numbers = facts | {
        "evaluations": {one.name: one.evaluation.to_json() | {"limits": one.limits} for one in sections},
        "sweeps": found,
        "metrics": history,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    storage = storage_of(out)
    storage.write(numbers_of(out), (json.dumps(plain(numbers), indent=1, allow_nan=False) + "\n").encode())
    storage.write(out, page.encode())
    return out


def numbers_of(page: Folder) -> Folder:
    """Where the numbers of a page are, as JSON."""
    return page.parent / f"{page.name}.json"


def _training_pictures(history: list[dict[str, Any]], first: Evaluation | None) -> list[figures.Picture]:
    n_genes = first.n_genes if first else int(_last(history, "n_genes") or 1)
    drawn = (figures.training_picture(history, n_genes, first), figures.goodput_picture(history))
    return [picture for picture in drawn if picture is not None]


def _readable(folders: Sequence[Folder]) -> Iterator[tuple[str, Evaluation]]:
    """Evaluations by name; one that is damaged is said and left out, unless none is left."""
    errors = []
    for folder in folders:
        try:
            yield folder.name, Evaluation.load(folder)
        except InputError as error:
            errors.append(error)
    if errors and len(errors) == len(folders):
        raise errors[0]
    for error in errors:
        warn(f"left out of the report: {error}")


def _section(name: str, evaluation: Evaluation) -> Section:
    populations = [
        figures.gene_mean_picture(evaluation),
        *figures.histogram_pictures(evaluation),
        figures.composition_picture(evaluation),
    ]
    table = evaluation.effects
    effects = [*effect_pictures(table.rows, table.ceiling), collapse_picture(evaluation)] if table else []
    return Section(
        name=name,
        evaluation=evaluation,
        umaps=[(colouring, drawn, legend_of(colouring)) for colouring, drawn in umap_pictures(evaluation)],
        markers=marker_pictures(evaluation),
        populations=[picture for picture in populations if picture is not None],
        effects=[picture for picture in effects if picture is not None],
        deltas=delta_pictures(evaluation),
        volcanoes=volcano_pictures(evaluation),
        calibration=calibration_pictures(evaluation),
        headline=_headline(evaluation),
        limits=limits(evaluation),
    )


def _sweep_section(sweep: Sweep) -> SweepSection:
    rows = sorted(sweep.rows, key=lambda row: (row.name, row.scale or 0.0, row.steps or 0))
    sweep = dataclasses.replace(sweep, rows=tuple(rows))
    return SweepSection(sweep=sweep, columns=shown_columns(sweep), pictures=sweep_pictures(sweep))


def _headline(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per method, the main number of every table; the model first, real vs real last."""
    rows: dict[str, dict[str, Any]] = {}

    def row(name: str) -> dict[str, Any]:
        return rows.setdefault(name, {"name": name})

    for bound in evaluation.bound:
        row(bound.name).update(nats=bound.nats.value, difference=bound.difference)
    for effect in evaluation.effects.rows if evaluation.effects else ():
        row(effect.name).update(pearson_delta=effect.metrics.get("pearson_delta"), pds=effect.metrics.get("pds"))
    for planted in evaluation.planted:
        row(planted.name)["planted"] = planted.share
    if evaluation.effects:  # a wide table hides its last columns; populations have tables of their own
        return _ordered(rows)
    for metric in evaluation.distribution:
        row(metric.name).update(mmd=metric.values["mmd"], ilisi=metric.values["ilisi"])
    for metric in evaluation.cells:
        if metric.name != "real":
            row(metric.name)["library_ks"] = metric.values["library_ks"]
    return _ordered(rows)


def _ordered(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    order = {"model": -2, "model (generated controls)": -1, "real vs real": 1}
    return sorted(rows.values(), key=lambda entry: order.get(entry["name"], 0))


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def _estimate(estimate: Estimate | None, digits: int = 3) -> str:
    return _number(None if estimate is None else estimate.value, digits)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _json(path: Folder) -> Any:
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}). The run folder is damaged.") from None


def _last(history: list[dict[str, Any]], key: str) -> Any:
    return next((line[key] for line in reversed(history) if line.get(key) is not None), None)
