"""The pictures of a report: each one is drawn on its own, as an image that stands inside the page."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.evaluation.extras import extra
from experiments.evaluation.results import Evaluation

REAL_COLOUR = "#8a8f98"
MODEL_COLOUR = "#c2410c"
BASELINE_COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LABEL_COLOURS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#edc948", "#76b7b2", "#ff9da7", "#4b5563",
    "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#aec7e8", "#98df8a",
)  # fmt: skip
INK = "#1f2937"
STYLE = {
    "font.size": 11,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "svg.hashsalt": "lingshu",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with its words."""

    uri: str
    """data: URI."""
    title: str
    caption: str = ""


class Canvas:
    """A figure with one pair of axes in the house style, without matplotlib's global state."""

    def __init__(self, width: float = 5.2, height: float = 3.9) -> None:
        matplotlib = extra("matplotlib")
        with matplotlib.rc_context(STYLE):
            self.figure = extra("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
            self.axes = self.figure.subplots()

    def picture(self, title: str, caption: str = "", *, points: bool = False) -> Picture:
        """As SVG, or as PNG where there are too many points for a small SVG."""
        buffer, kind = io.BytesIO(), "png" if points else "svg"
        with extra("matplotlib").rc_context(STYLE):
            options: dict[str, Any] = {"dpi": 170} if points else {"metadata": {"Date": None}}
            self.figure.savefig(buffer, format=kind, facecolor="white", **options)
        mime = "image/png" if points else "image/svg+xml"
        content = base64.b64encode(buffer.getvalue()).decode()
        return Picture(uri=f"data:{mime};base64,{content}", title=title, caption=caption)


def gene_mean_picture(evaluation: Evaluation) -> Picture | None:
    """Mean counts per gene, generated against real, both axes logarithmic."""
    arrays = evaluation.arrays
    if "gene_mean_model" not in arrays:
        return None
    real, model = arrays["gene_mean_real"], arrays["gene_mean_model"]
    floor = max(min(real[real > 0].min(initial=1), model[model > 0].min(initial=1)), 1e-5)
    canvas = Canvas(5.2, 4.2)
    top = max(real.max(), model.max(), floor * 10)
    canvas.axes.plot([floor, top], [floor, top], color="#6b7280", linewidth=1)
    canvas.axes.scatter(
        np.maximum(real, floor), np.maximum(model, floor), s=5, c=MODEL_COLOUR, alpha=0.35, linewidths=0
    )
    canvas.axes.set(xscale="log", yscale="log", xlabel="real", ylabel="generated")
    caption = "Mean counts per gene, cells scaled to one library size; genes at the edge were never seen on that side."
    return canvas.picture("Gene means", caption, points=True)


def histogram_pictures(evaluation: Evaluation) -> list[Picture]:
    """Library sizes and zero fractions: real filled, model and baselines as lines."""
    methods = evaluation.pictures.cell_methods
    if not methods:
        return []
    return [
        _histogram(evaluation, "library", "Library size", "counts per cell", log=True),
        _histogram(evaluation, "zero_fraction", "Zero fraction", "share of genes without a count", log=False),
    ]


def _histogram(evaluation: Evaluation, array: str, title: str, label: str, *, log: bool) -> Picture:
    values = {name: evaluation.arrays[f"{array}_{i}"] for i, name in enumerate(evaluation.pictures.cell_methods)}
    pooled = np.concatenate(list(values.values()))
    low, high = np.quantile(pooled, [0.001, 0.999])
    if log:
        low, high = max(low, 1.0), max(high, 2.0)
    high = high if high > low else low + 1e-6
    edges = np.geomspace(low, high, 41) if log else np.linspace(low, high, 41)
    canvas = Canvas(5.2, 4.2)
    colours = iter(BASELINE_COLOURS)
    tallest = 0.0
    for name, sample in values.items():
        share = np.histogram(np.clip(sample, low, high), edges)[0] / max(len(sample), 1)
        if name in ("real", "model"):
            tallest = max(tallest, share.max())
        if name == "real":
            canvas.axes.stairs(share, edges, fill=True, color=REAL_COLOUR, alpha=0.45, label=name)
        elif name == "model":
            canvas.axes.stairs(share, edges, color=MODEL_COLOUR, linewidth=2, label=name, zorder=5)
        else:
            canvas.axes.stairs(share, edges, color=next(colours), linewidth=1.2, label=name)
    if log:
        canvas.axes.set_xscale("log")
        ticker = extra("matplotlib.ticker")
        canvas.axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        canvas.axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        canvas.axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    # A baseline without depth is one high spike; it may leave the picture at the top.
    canvas.axes.set(xlabel=label, ylabel="share of cells", ylim=(0, max(tallest, 1e-6) * 1.6))
    canvas.figure.legend(fontsize=9, ncols=3, frameon=False, loc="outside lower center")
    return canvas.picture(title)


def composition_picture(evaluation: Evaluation) -> Picture | None:
    """Shares per label, real and generated bars beside each other."""
    composition = evaluation.composition
    if composition is None:
        return None
    rows = np.arange(len(composition.labels))
    canvas = Canvas(5.2, 1.2 + 0.36 * len(rows))
    canvas.axes.barh(rows - 0.2, composition.shares["real"], 0.38, color=REAL_COLOUR, label="real")
    canvas.axes.barh(rows + 0.2, composition.shares["model"], 0.38, color=MODEL_COLOUR, label="model")
    canvas.axes.set_yticks(rows, [_plain(short(label)) for label in composition.labels])
    canvas.axes.invert_yaxis()
    canvas.axes.set_xlabel("share of cells")
    canvas.figure.legend(fontsize=9, ncols=2, frameon=False, loc="outside lower center")
    return canvas.picture("Proportions", "Labels given to both sides by one classifier fitted on training cells.")


def training_picture(history: Sequence[dict[str, Any]], n_genes: int, evaluation: Evaluation | None) -> Picture | None:
    """Training loss and held-out nats per cell by step, with the likelihood baselines as lines."""
    train = _series(history, "train_nats") or [(s, v * n_genes) for s, v in _series(history, "loss")]
    held_out = _series(history, "val_nats")
    if not train and not held_out:
        return None
    canvas = Canvas(6.4, 4.6)
    if train:
        canvas.axes.plot(*zip(*train, strict=True), color=REAL_COLOUR, linewidth=1, alpha=0.5)
        canvas.axes.plot(*zip(*_smoothed(train), strict=True), color=INK, linewidth=1.5, label="training")
    if held_out:
        canvas.axes.plot(
            *zip(*held_out, strict=True), color=MODEL_COLOUR, marker="o", markersize=4, linewidth=2, label="validation"
        )
    for row, colour in zip(_baselines(evaluation), BASELINE_COLOURS, strict=False):
        canvas.axes.axhline(row.nats.value, color=colour, linestyle="--", linewidth=1.2, label=f"{row.name} (test)")
    canvas.axes.set(xlabel="step", ylabel="nats per cell")
    shown = [v for _, v in _smoothed(train) + held_out]
    lines = [row.nats.value for row in _baselines(evaluation)]
    low, high = min(shown + lines), max(np.quantile(shown, 0.98), *lines, min(shown) + 1e-6)
    canvas.axes.set_ylim(low - 0.06 * (high - low), high + 0.1 * (high - low))
    canvas.figure.legend(fontsize=9, ncols=2, frameon=False, loc="outside lower center")
    return canvas.picture(
        "Nats per cell by step",
        "Training and validation: upper bounds on -log p. Baselines are of the test cells, which are other cells: "
        "read differences in the paired table.",
    )


def goodput_picture(history: Sequence[dict[str, Any]]) -> Picture | None:
    """Wall time by what it went to, up to each step; restarts included."""
    lines = [line for line in history if isinstance(line.get("lost_seconds"), dict) and "useful_seconds" in line]
    if len(lines) < 2:
        return None
    causes = [name for name, seconds in lines[-1]["lost_seconds"].items() if seconds > 0]
    steps = [line["step"] for line in lines]
    minutes = [[line["useful_seconds"] / 60 for line in lines]]
    minutes += [[line["lost_seconds"].get(cause, 0.0) / 60 for line in lines] for cause in causes]
    total = sum(row[-1] for row in minutes)
    canvas = Canvas(6.4, 4.6)
    colours = [REAL_COLOUR, *BASELINE_COLOURS]
    names = ["training", *causes][: len(colours)]
    canvas.axes.stackplot(steps, minutes[: len(colours)], labels=names, colors=colours[: len(names)], alpha=0.8)
    canvas.axes.set(xlabel="step", ylabel="minutes")
    canvas.figure.legend(fontsize=9, ncols=3, frameon=False, loc="outside lower center")
    return canvas.picture(
        "Where the time went", f"Goodput {minutes[0][-1] / max(total, 1e-9):.0%} of {total:,.1f} minutes."
    )


def _series(history: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    pairs = [(line["step"], line[key]) for line in history if line.get(key) is not None and "step" in line]
    return [(float(step), float(value)) for step, value in pairs if np.isfinite(value)]


def _smoothed(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
    width = max(1, len(series) // 40)
    values = np.array([value for _, value in series])
    return [(step, float(values[max(0, i - width) : i + width + 1].mean())) for i, (step, _) in enumerate(series)]


def _baselines(evaluation: Evaluation | None) -> list[Any]:
    return [] if evaluation is None else [row for row in evaluation.bound if not row.name.startswith("model")]


def short(label: str) -> str:
    """A label that fits beside an axis."""
    return label if len(label) <= 28 else label[:27] + "…"


def _plain(label: str) -> str:
    """A label without matplotlib's own markup: dollars would start a formula."""
    return label.replace("$", r"\$")
