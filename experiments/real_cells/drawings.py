"""Pictures of the results, as PNG beside the page: dots with intervals, and layouts of real and generated cells."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.evaluation.extras import extra
from experiments.evaluation.figures import BASELINE_COLOURS, MODEL_COLOUR, REAL_COLOUR, STYLE
from experiments.evaluation.umap_pictures import draw_side, legend_of

if TYPE_CHECKING:
    from experiments.evaluation.results import Estimate, Evaluation

_ROW_INCHES = 0.36
_DPI = 120


def dots(rows: Sequence[str], methods: "Mapping[str, Sequence[Estimate | None]]", axis: str) -> bytes:
    """A row per condition or task, in it a dot per method, with its interval where there is one.

    Args:
        rows: names of the rows, from above.
        methods: name -> a value per row; 'model' and 'real vs real' have colours of their own.
        axis: what the values are, and which way is better.
    """
    figure = _figure(8.0, 1.3 + _ROW_INCHES * len(rows))
    with extra("matplotlib").rc_context(STYLE):
        axes = figure.subplots()
        shift = np.linspace(-0.22, 0.22, len(methods)) if len(methods) > 1 else [0.0]
        colours = iter(BASELINE_COLOURS * len(methods))
        for (name, values), offset in zip(methods.items(), shift, strict=True):
            fixed = {"model": MODEL_COLOUR, "real vs real": REAL_COLOUR}
            colour = fixed[name] if name in fixed else next(colours)
            there = [(i, v) for i, v in enumerate(values) if v is not None and v.value is not None]
            place = [i + offset for i, _ in there]
            axes.plot([v.value for _, v in there], place, "o", ms=6, color=colour, label=name)
            for where, (_, value) in zip(place, there, strict=True):
                if value.low is not None:
                    axes.plot([value.low, value.high], [where, where], color=colour, lw=1.6)
        for line in np.arange(len(rows) - 1) + 0.5:
            axes.axhline(line, color="#e5e7eb", lw=0.8, zorder=0)
        low, high = axes.get_xlim()
        if low < 0 < high:
            axes.axvline(0, color="#9ca3af", lw=1, zorder=0)
        axes.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5), xlabel=axis)
        axes.tick_params(axis="y", length=0)
        figure.legend(ncols=min(len(methods), 4), frameon=False, loc="outside upper center", fontsize=10)
    return _png(figure)


def layouts(evaluation: "Evaluation") -> bytes | None:
    """Real held-out cells and generated ones in one joint UMAP, by label where there is one; None without a layout."""
    if "umap_real" not in evaluation.arrays:
        return None
    figure = _figure(9.0, 4.8)
    with extra("matplotlib").rc_context(STYLE):
        sides = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, side, title in zip(sides, ("real", "model"), ("real held-out cells", "generated cells"), strict=True):
            draw_side(axes, evaluation, side, 0)
            axes.set_title(title, fontsize=11)
        labels = legend_of(evaluation.pictures.umap[0]) if evaluation.pictures.umap else []
        if labels:
            lines = extra("matplotlib.lines")
            handles = [lines.Line2D([], [], ls="", marker="o", ms=6, color=colour) for _, colour in labels]
            names = [label for label, _ in labels]
            figure.legend(handles, names, ncols=4, frameon=False, loc="outside lower center", fontsize=9)
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    with extra("matplotlib").rc_context(STYLE):
        return extra("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with extra("matplotlib").rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
