"""Pictures of perturbation effects: scores with intervals, predicted against real effects, volcanoes."""

from collections.abc import Sequence

import numpy as np

from experiments.evaluation.figures import INK, MODEL_COLOUR, REAL_COLOUR, Canvas, Picture
from experiments.evaluation.results import EffectRow, Evaluation

_SIGNIFICANT = -np.log10(0.05)
_HIGHEST = 40.0
"""-log10 of p: what lies higher is drawn there."""


def effect_pictures(table_rows: Sequence[EffectRow], ceiling: float | None) -> list[Picture]:
    """Pearson-delta and PDS of every method with intervals."""
    pictures = []
    for metric, title, line in (("pearson_delta", "Pearson-delta", ceiling), ("pds", "PDS", 0.5)):
        rows = [row for row in table_rows if row.metrics.get(metric) and row.metrics[metric].value is not None]
        if not rows:
            continue
        canvas = Canvas(5.4, 1.1 + 0.34 * len(rows))
        for y, row in enumerate(rows):
            estimate = row.metrics[metric]
            colour = MODEL_COLOUR if row.name.startswith("model") else {"real vs real": REAL_COLOUR}.get(row.name, INK)
            if estimate.low is not None and estimate.high is not None:
                canvas.axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=2, alpha=0.6)
            canvas.axes.plot([estimate.value], [y], "o", color=colour, markersize=6)
        if line is not None:
            canvas.axes.axvline(line, color="#6b7280", linestyle="--", linewidth=1)
        canvas.axes.set_yticks(range(len(rows)), [row.name for row in rows])
        canvas.axes.invert_yaxis()
        canvas.axes.set_xlabel(title)
        dashed = "chance" if metric == "pds" else "limit of a noise-free prediction"
        pictures.append(canvas.picture(title, f"95 % intervals over perturbations; dashed: {dashed}." if line else ""))
    return pictures


def delta_pictures(evaluation: Evaluation) -> list[Picture]:
    """Predicted against real effect per gene, for the conditions with the largest real effects."""
    arrays, names = evaluation.arrays, evaluation.pictures.delta_conditions
    pictures = []
    for i, name in enumerate(names):
        real, model = arrays["delta_real"][i], arrays["delta_model"][i]
        reach = float(np.nanmax(np.abs(np.concatenate([real, model, [1e-6]])))) * 1.05
        canvas = Canvas(3.7, 3.5)
        canvas.axes.axhline(0, color="#d1d5db", linewidth=0.8)
        canvas.axes.axvline(0, color="#d1d5db", linewidth=0.8)
        canvas.axes.plot([-reach, reach], [-reach, reach], color="#6b7280", linewidth=1)
        canvas.axes.scatter(real, model, s=6, c=MODEL_COLOUR, alpha=0.4, linewidths=0)
        canvas.axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="real effect", ylabel="predicted effect")
        pictures.append(canvas.picture(name, points=True))
    return pictures


def volcano_pictures(evaluation: Evaluation) -> list[Picture]:
    """Effect and significance of every gene, real and generated cells on the same axes."""
    arrays = evaluation.arrays
    if "volcano_real" not in arrays:
        return []
    pictures = []
    for i, name in enumerate(evaluation.pictures.delta_conditions):
        canvas = Canvas(3.7, 3.5)
        counted = []
        for side, colour in (("real", REAL_COLOUR), ("model", MODEL_COLOUR)):
            effect, height = arrays[f"delta_{side}"][i], arrays[f"volcano_{side}"][i]
            canvas.axes.scatter(
                effect, np.minimum(height, _HIGHEST), s=6, c=colour, alpha=0.4, linewidths=0, label=side
            )
            counted.append(int((height > _SIGNIFICANT).sum()))
        canvas.axes.axhline(_SIGNIFICANT, color="#6b7280", linestyle="--", linewidth=1)
        canvas.axes.set(xlabel="effect", ylabel="-log10 adjusted p", ylim=(0, None))
        canvas.figure.legend(fontsize=9, ncols=2, frameon=False, loc="outside lower center", markerscale=2)
        caption = f"Adjusted p < 0.05: {counted[0]:,} genes in real cells, {counted[1]:,} in as many generated ones."
        pictures.append(canvas.picture(name, caption, points=True))
    return pictures
