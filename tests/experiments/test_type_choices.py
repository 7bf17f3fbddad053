import dataclasses

import pytest

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.configs import load_experiment
from experiments.type_choices import describe_choices, find_choices
from lingshu_jax.diffusion import ControlGuidance, CosineSchedule, CustomSchedule, NoGuidance, SamplerConfig
from lingshu_jax.model import KeepAll, LogFrequency, NoFactors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Like those of a command."""

    n: int = 1
    sampler: SamplerConfig = SamplerConfig()


def options(*arguments, default=None):
    return parse(Options, arguments, prog="test", description="A test.", default=default or Options())


def test_a_type_is_chosen_by_its_short_name_and_then_set():
    chosen = options(
        "--sampler.schedule", "cosine", "--n", "3", "--sampler.schedule.steps=5", "--sampler.guidance=control"
    )
    assert chosen.sampler == SamplerConfig(schedule=CosineSchedule(steps=5), guidance=ControlGuidance())
    assert chosen.n == 3
    custom = options("--sampler.schedule", "custom", "--sampler.schedule.shares", "0.9", "0.2")
    assert custom.sampler.schedule == CustomSchedule(shares=(0.9, 0.2))


def test_the_default_can_be_taken_back():
    guided = Options(sampler=SamplerConfig(guidance=ControlGuidance(scale=3.0)))
    assert options(default=guided).sampler.guidance == ControlGuidance(scale=3.0)
    assert options("--sampler.guidance", "none", default=guided).sampler.guidance == NoGuidance()


def test_every_choice_of_an_experiment_has_distinct_names():
    choices = {choice.option: list(choice.kinds) for choice in find_choices(load_experiment("demo"))}
    assert choices["--model.start"] == ["none", "log-frequency", "depth-nb"]
    assert choices["--model.factors"] == ["none", "low-rank"]
    assert choices["--model.remat"] == ["keep-all", "keep-products", "keep-inputs"]
    assert choices["--sampler.order"] == ["ancestral", "confidence"]
    assert "--sampler.guidance none|control|null" in describe_choices(load_experiment("demo"))


def test_training_takes_them_without_a_prefix():
    from experiments.commands.train import parse_options

    arguments = ["demo", "--model.start", "log-frequency", "--model.factors", "none", "--model.remat", "keep-all"]
    model = parse_options(arguments).config.model
    assert (model.start, model.factors, model.remat) == (LogFrequency(), NoFactors(), KeepAll())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            ["--sampler.schedule", "cosin"],
            r"must be one of cosine, geometric, linear, custom, got 'cosin' \(nearest: cosine",
        ),
        (["--sampler.guidance"], "needs one of: none, control, null"),
        (["--sampler.schedule", "cosine", "--sampler.schedule.first-share", "0.1"], "first-share"),
    ],
)
def test_what_is_no_type_or_no_setting_of_it_is_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        options(*arguments)
