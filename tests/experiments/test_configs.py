import dataclasses

import pytest

from data_pipelines.errors import InputError
from experiments.blueprint import Blueprint, Cells
from experiments.config_json import from_json, to_json
from experiments.configs import EXPERIMENTS, load_experiment, sizes
from experiments.configs.sizes import SIZES, DataShape
from lingshu_jax.diffusion import ControlGuidance, CosineSchedule
from lingshu_jax.model import NoBias, NoFactors


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_survives_json_and_tells_its_command(name):
    experiment = load_experiment(name)
    assert from_json(to_json(experiment)) == experiment and hash(experiment) == hash(from_json(to_json(experiment)))
    assert experiment.name == name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("genes", [299, 18_080])
def test_sizes_fit_any_panel(size, genes):
    shape = DataShape(cells=1_000, genes=genes)
    counts = Blueprint(load_experiment("perturb", size=size, shape=shape), Cells(genes=genes)).weights
    assert counts["blocks"] > 10_000


def test_the_papers_sizes():
    """Section 3 and 4: 85.2 M weights in the blocks, 13.1 M in each of W_down and W_up, 565 and 2,260 positions."""
    for name, patches in (("paper-s32", 565), ("paper-s8", 2_260)):
        experiment = load_experiment(name)
        counts = Blueprint(experiment, Cells()).weights
        assert round(counts["blocks"] / 1e6, 1) == 85.2
        assert counts["patch_embedding"] == patches * 640
        assert isinstance(experiment.model.start, NoBias) and isinstance(experiment.model.factors, NoFactors)
        assert experiment.sampler.schedule == CosineSchedule(steps=3)
        assert experiment.sampler.guidance == ControlGuidance(scale=2.0, mixed=0.0)
    counts = Blueprint(load_experiment("paper-s32"), Cells()).weights
    assert round(counts["w_down"] / 1e6, 1) == round(counts["w_up"] / 1e6, 1) == 13.1


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no experiment 'pbmc-sort' \(nearest: pbmc-sorted"):
        load_experiment("pbmc-sort")
    with pytest.raises(InputError, match="has one size"):
        load_experiment("demo", size="base")


def test_settings_of_another_version_are_refused():
    value = to_json(load_experiment("demo"))
    with pytest.raises(ValueError, match="no setting 'colour'"):
        from_json({**value, "colour": 1})
    with pytest.raises(ValueError, match="type 'Evil'"):
        from_json({"type": "Evil"})


def test_experiments_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_experiment("demo").seed = 1  # type: ignore[misc]


def test_the_size_follows_device_and_data(monkeypatch):
    large, few = DataShape(cells=1_000_000, genes=18_080), DataShape(cells=1_000, genes=18_080)
    monkeypatch.setattr(sizes, "accelerator_visible", lambda: False)
    assert load_experiment("perturb", shape=large).model.width == 64
    monkeypatch.setattr(sizes, "accelerator_visible", lambda: True)
    assert load_experiment("perturb", shape=few).model.width == 256
    assert load_experiment("perturb", shape=large).model.width == 640
