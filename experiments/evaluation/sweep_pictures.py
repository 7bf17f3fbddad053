"""Pictures of a sweep: what each measure does as steps and guidance grow."""

from collections.abc import Callable, Sequence

from experiments.evaluation.figures import BASELINE_COLOURS, MODEL_COLOUR, REAL_COLOUR, Canvas, Picture
from experiments.evaluation.sweep_rows import Sweep, SweepRow

COLUMNS = {
    "library_median": ("library median", 0),
    "library_log_sd": ("sd of log library", 3),
    "library_ks": ("library KS", 3),
    "zero_median": ("zero fraction", 3),
    "share_error": ("share error", 3),
    "mmd": ("MMD²", 4),
    "pearson_delta": ("Pearson-delta", 3),
    "pds": ("PDS", 3),
    "mae": ("MAE", 4),
    "energy_distance": ("energy distance", 3),
}
"""Measure -> title and digits."""
PICTURED = ("library_log_sd", "zero_median", "mmd", "pearson_delta")


def shown_columns(sweep: Sweep) -> dict[str, tuple[str, int]]:
    """The columns in which anything was measured."""
    rows = [*sweep.reference, *sweep.rows]
    return {key: column for key, column in COLUMNS.items() if any(row.values.get(key) is not None for row in rows)}


def sweep_pictures(sweep: Sweep) -> list[Picture]:
    """Each measure against steps, a line per schedule and scale; against the scale, where there are several."""
    pictures = []
    for key in PICTURED:
        if len({row.steps for row in sweep.rows}) > 1:
            pictures.append(_picture(sweep, key, "reverse steps", lambda row: row.steps, _schedule_and_scale))
        if len({row.scale for row in sweep.rows}) > 1:
            pictures.append(_picture(sweep, key, "guidance scale w", lambda row: row.scale, _schedule_and_steps))
    return [picture for picture in pictures if picture is not None]


def _schedule_and_scale(row: SweepRow) -> str:
    return f"{row.name}, w = {row.scale:g}"


def _schedule_and_steps(row: SweepRow) -> str:
    return f"{row.name}, {row.steps} steps"


def _picture(
    sweep: Sweep, key: str, label: str, place: Callable[[SweepRow], float | None], name: Callable[[SweepRow], str]
) -> Picture | None:
    title = COLUMNS[key][0]
    rows = [row for row in sweep.rows if row.values.get(key) is not None]
    if not rows:
        return None
    canvas = Canvas(5.2, 4.2)
    lines: dict[str, list[SweepRow]] = {}
    for row in rows:
        lines.setdefault(name(row), []).append(row)
    colours = (MODEL_COLOUR, *BASELINE_COLOURS)
    for i, (text, members) in enumerate(lines.items()):
        points = sorted((place(row) or 0.0, row.values[key] or 0.0) for row in members)
        style = "o-" if i < len(colours) else "o--"
        canvas.axes.plot(*zip(*points, strict=True), style, color=colours[i % len(colours)], markersize=4, label=text)
    for row in sweep.reference:
        value = row.values.get(key)
        if value is not None:
            style = "-" if row.name == "real" else ":"
            canvas.axes.axhline(value, color=REAL_COLOUR, linestyle=style, linewidth=1.4, label=row.name)
    places: Sequence[float] = sorted({place(row) or 0.0 for row in rows})
    if label == "reverse steps":
        canvas.axes.set_xscale("log")
    canvas.axes.set_xticks(places, [f"{value:g}" for value in places])
    canvas.axes.minorticks_off()
    canvas.axes.set(xlabel=label, ylabel=title)
    canvas.figure.legend(fontsize=9, ncols=2, frameon=False, loc="outside lower center")
    return canvas.picture(f"{title[0].upper()}{title[1:]} against {label}")
