"""Pictures of results are PNGs of the same bytes each time, whatever is missing of a row."""

import io

import numpy as np
from PIL import Image

from experiments.evaluation.results import Colouring, Estimate, PictureLabels
from experiments.real_cells.drawings import dots, layouts
from tests.experiments.real_cells.made_up import evaluation

MODEL_RED = np.array([0xC2, 0x41, 0x0C])


def shown(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def reds(png: bytes) -> int:
    """Pixels of the model's colour; points are a little transparent."""
    return int((np.abs(shown(png) - MODEL_RED).max(-1) < 45).sum())


def test_a_row_without_a_value_has_no_dot():
    value = Estimate(value=0.5, low=0.4, high=0.6)
    whole = dots(["a", "b"], {"model": [value, value], "real vs real": [value, None]}, "r")
    half = dots(["a", "b"], {"model": [value, None], "real vs real": [value, None]}, "r")
    assert whole == dots(["a", "b"], {"model": [value, value], "real vs real": [value, None]}, "r")
    assert reds(whole) > reds(half) > 0


def test_more_methods_than_colours_are_drawn():
    values = {f"method {i}": [Estimate(value=float(i))] for i in range(9)}
    assert shown(dots(["a"], values, "r")).shape[2] == 3


def test_layouts_show_both_sides_by_label():
    assert layouts(evaluation()) is None
    rng = np.random.default_rng(0)
    arrays = {f"umap_{side}": rng.normal(size=(30, 2)) for side in ("real", "model")}
    arrays |= {f"umap_code_{side}_0": np.arange(30) % 2 for side in ("real", "model")}
    pictures = PictureLabels(umap=(Colouring(column="type", labels=("a", "b")),))
    labelled = layouts(evaluation(arrays=arrays, pictures=pictures))
    plain = layouts(evaluation(arrays={name: arrays[name] for name in ("umap_real", "umap_model")}))
    assert labelled is not None and plain is not None
    assert reds(plain) > 50 > reds(labelled)  # one colour for all generated cells, or one per label
