"""Pictures of two diagnostics: do predictions depend on the perturbation, and are generated counts calibrated."""

import numpy as np

from experiments.evaluation.figures import MODEL_COLOUR, REAL_COLOUR, Canvas, Picture
from experiments.evaluation.results import Evaluation


def collapse_picture(evaluation: Evaluation) -> Picture | None:
    """Spread between perturbations of every method, relative to the real one."""
    rows = evaluation.collapse
    if not rows:
        return None
    canvas = Canvas(5.4, 1.1 + 0.34 * len(rows))
    for y, row in enumerate(rows):
        colour = MODEL_COLOUR if row.name == "model" else REAL_COLOUR
        canvas.axes.barh(y, row.share, 0.6, color=colour)
        canvas.axes.plot(list(row.contexts.values()), [y] * len(row.contexts), "|", color="#1f2937", markersize=10)
    canvas.axes.axvline(1, color="#6b7280", linestyle="--", linewidth=1)
    canvas.axes.set_yticks(range(len(rows)), [row.name for row in rows])
    canvas.axes.invert_yaxis()
    canvas.axes.set_xlabel("variance between perturbations / real")
    return canvas.picture(
        "Do predictions depend on the perturbation?",
        "0: one effect for all; dashed: as the real; ticks: contexts.",
    )


def calibration_pictures(evaluation: Evaluation) -> list[Picture]:
    """One histogram per expression level, the model over real cells among real cells."""
    pictures = []
    for level in dict.fromkeys(row.level for row in evaluation.calibration):
        rows = {row.name: row for row in evaluation.calibration if row.level == level}
        canvas = Canvas(3.7, 3.2)
        for name, colour, fill in (("real vs real", REAL_COLOUR, True), ("model", MODEL_COLOUR, False)):
            if name in rows:
                shares = np.array(rows[name].shares)
                style = {"alpha": 0.45} if fill else {"linewidth": 2}
                canvas.axes.stairs(
                    shares * len(shares),
                    np.linspace(0, 1, len(shares) + 1),
                    fill=fill,
                    color=colour,
                    label=name,
                    **style,
                )
        canvas.axes.axhline(1, color="#6b7280", linestyle="--", linewidth=1)
        canvas.axes.set(xlabel="place among generated counts", ylabel="density", ylim=(0, None))
        canvas.figure.legend(fontsize=9, ncols=2, frameon=False, loc="outside lower center")
        error = ", ".join(f"{name} {row.error:.3f}" for name, row in rows.items())
        pictures.append(canvas.picture(f"Mean count {level}", f"{rows['model'].genes} genes; error: {error}."))
    return pictures
