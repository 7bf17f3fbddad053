"""Pictures of the joint layout: real beside generated cells, by label and by marker gene."""

from typing import Any

import numpy as np

from experiments.evaluation.extras import extra
from experiments.evaluation.figures import LABEL_COLOURS, MODEL_COLOUR, REAL_COLOUR, Canvas, Picture, short
from experiments.evaluation.labels import CONTROL
from experiments.evaluation.results import Colouring, Evaluation

_OTHER_SIDE = "#e5e7eb"
_CONTROL = "#9ca3af"
_TITLES = {"real": "Real held-out cells", "model": "Generated cells"}


def umap_pictures(evaluation: Evaluation) -> list[tuple[Colouring, list[Picture]]]:
    """Both sides by each labelling, each over the other side in grey."""
    if "umap_real" not in evaluation.arrays:
        return []
    colourings = evaluation.pictures.umap or (Colouring(column="", labels=()),)
    return [(colouring, [_coded(evaluation, side, i) for side in _TITLES]) for i, colouring in enumerate(colourings)]


def draw_side(axes: Any, evaluation: Evaluation, side: str, which: int) -> None:
    """The cells of a side, 'real' or 'model', by a labelling, over the other side in grey."""
    arrays = evaluation.arrays
    axes.scatter(*arrays["umap_model" if side == "real" else "umap_real"].T, s=5, c=_OTHER_SIDE, linewidths=0)
    points = arrays[f"umap_{side}"]
    codes = arrays.get(f"umap_code_{side}_{which}", np.full(len(points), -1))
    labels = evaluation.pictures.umap[which].labels if evaluation.pictures.umap else ()
    axes.scatter(*points.T, s=_size(len(points)), c=point_colours(codes, labels, side), linewidths=0, alpha=0.85)
    _label(axes)


def _coded(evaluation: Evaluation, side: str, which: int) -> Picture:
    canvas = Canvas(4.6, 4.6)
    draw_side(canvas.axes, evaluation, side, which)
    n = len(evaluation.arrays[f"umap_{side}"])
    return canvas.picture(_TITLES[side], f"{n:,} cells; grey: the other side", points=True)


def marker_pictures(evaluation: Evaluation) -> list[Picture]:
    """Expression of each marker gene, real and generated cells on one colour scale."""
    arrays, pictures = evaluation.arrays, []
    if "umap_marker_real" not in arrays:
        return []
    for i, gene in enumerate(evaluation.pictures.umap_markers):
        values = {side: arrays[f"umap_marker_{side}"][:, i] for side in _TITLES}
        top = max(float(np.quantile(np.concatenate(list(values.values())), 0.99)), 1e-6)
        for side, word in (("real", "real"), ("model", "generated")):
            canvas = Canvas(4.4, 3.6)
            _label(canvas.axes)
            order = np.argsort(values[side], kind="stable")  # cells that express the gene lie on top
            shown = canvas.axes.scatter(
                *arrays[f"umap_{side}"][order].T,
                s=_size(len(order)),
                c=values[side][order],
                cmap=_colours(),
                vmin=0,
                vmax=top,
                linewidths=0,
            )
            canvas.figure.colorbar(shown, ax=canvas.axes, shrink=0.7, label="log1p of counts per 10,000")
            pictures.append(canvas.picture(f"{short(gene)}, {word}", points=True))
    return pictures


def legend_of(colouring: Colouring) -> list[tuple[str, str]]:
    """(label, colour); nothing where there is one label, or too many to tell apart."""
    if not 1 < len(colouring.labels) <= len(LABEL_COLOURS):
        return []
    return list(zip(colouring.labels, _palette(colouring.labels), strict=True))


def point_colours(codes: np.ndarray, labels: tuple[str, ...], side: str) -> list[str]:
    """A colour per cell; one for all of a side where labels are missing or too many to tell apart."""
    single = REAL_COLOUR if side == "real" else MODEL_COLOUR
    if not labels or len(labels) > len(LABEL_COLOURS):
        return [single] * len(codes)
    palette = _palette(labels)
    return [single if code < 0 else palette[code] for code in codes.tolist()]


def _palette(labels: tuple[str, ...]) -> list[str]:
    colours = iter(LABEL_COLOURS)
    return [_CONTROL if label == CONTROL else next(colours) for label in labels]


def _label(axes: Any) -> None:
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")


def _size(n: int) -> float:
    return float(np.clip(9000 / max(n, 1), 4, 14))


def _colours() -> Any:
    return extra("matplotlib.colors").LinearSegmentedColormap.from_list(
        "expression", ["#e5e7eb", "#fdba74", MODEL_COLOUR]
    )
