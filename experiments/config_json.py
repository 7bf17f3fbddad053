"""Config objects to JSON and back: every dataclass names its type, and only known types are built."""

import dataclasses
import typing
from typing import Any

from experiments.experiment import DataConfig, Experiment, InitConfig
from lingshu_jax.diffusion import (
    Ancestral,
    Confidence,
    ControlGuidance,
    CosineSchedule,
    CustomSchedule,
    GeometricSchedule,
    LinearSchedule,
    NoGuidance,
    NullGuidance,
    SamplerConfig,
)
from lingshu_jax.model import (
    ApartOrder,
    DenoiserConfig,
    DepthNB,
    KeepAll,
    KeepInputs,
    KeepProducts,
    LogFrequency,
    LowRankFactors,
    NoBias,
    NoFactors,
    NoFeatures,
    RandomOrder,
    TargetFeatures,
    TogetherOrder,
)
from lingshu_jax.parallel.config import MeshConfig
from lingshu_jax.training.config import OptimizerConfig, TrainingConfig

_TYPES = {
    kind.__name__: kind
    for kind in (
        Ancestral,
        ApartOrder,
        Confidence,
        ControlGuidance,
        CosineSchedule,
        CustomSchedule,
        DataConfig,
        DenoiserConfig,
        DepthNB,
        Experiment,
        GeometricSchedule,
        InitConfig,
        KeepAll,
        KeepInputs,
        KeepProducts,
        LinearSchedule,
        LogFrequency,
        LowRankFactors,
        MeshConfig,
        NoBias,
        NoFactors,
        NoFeatures,
        NoGuidance,
        NullGuidance,
        OptimizerConfig,
        RandomOrder,
        SamplerConfig,
        TargetFeatures,
        TogetherOrder,
        TrainingConfig,
    )
}


def to_json(config: Any) -> Any:
    """A config object as plain JSON values; dataclasses carry their type's name under 'type'."""
    if isinstance(config, tuple):
        return [to_json(inner) for inner in config]
    if dataclasses.is_dataclass(config):
        fields = {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"type": type(config).__name__, **fields}
    return config


def from_json(value: Any) -> Any:
    """The config object that `to_json` wrote.

    Raises:
        ValueError: a type or a setting that this version does not know, by name.
    """
    if isinstance(value, list):
        return tuple(from_json(inner) for inner in value)
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if name not in _TYPES:
        raise ValueError(f"settings of type {name!r} are not known to this version. Update lingshu-jax.")
    kind: typing.Any = _TYPES[name]
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(value) - known - {"type"})
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r} in this version. Update lingshu-jax.")
    given = {key: from_json(inner) for key, inner in value.items() if key != "type"}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default) and not dataclasses.is_dataclass(
            given.get(field.name, field.default)
        ):
            raise ValueError(f"{name}.{field.name} is no group of settings.")
    return kind(**given)
