"""The tables of docs/scaling.md are those that the command prints, and follow the compiled programs that it quotes."""

import itertools
import pathlib

import pytest

from experiments.blueprint import Blueprint, Cells
from experiments.configs import load_experiment
from experiments.hardware import named
from experiments.scaling import bytes_sent, project, tables
from lingshu_jax.parallel.config import MeshConfig

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_document_holds_what_the_command_prints():
    assert "\n".join(tables()) in DOCS.read_text()


@pytest.mark.parametrize(
    ("name", "topology", "mesh", "cells", "compiled"),
    [
        ("paper-s32", "v5e:16x16", MeshConfig(data=256), 4096, 379),
        ("paper-s8", "v5p:8x8x8", MeshConfig(data=512), 8192, 351),
        ("paper-s32", "v5e:16x16", MeshConfig(data=32, fsdp=8), 4096, 525),
        ("paper-s8", "v5e:16x16", MeshConfig(data=16, fsdp=8, tensor=2), 4096, 7094),
    ],
)
def test_bytes_are_those_of_the_compiled_programs(name, topology, mesh, cells, compiled):
    blueprint = Blueprint(load_experiment(name), Cells(), cells)
    assert bytes_sent(blueprint, mesh) / 2**20 == pytest.approx(compiled, rel=0.15)
    assert f"{compiled:,}" in DOCS.read_text() and topology.split(":")[0] in DOCS.read_text()


def test_more_chips_never_make_a_batch_slower_and_never_faster_than_ideal():
    speeds = [project("paper-s8", named(f"v5e:{n}"), 256).cells_per_second for n in (1, 4, 16, 64, 256)]
    assert all(1 < after / before <= 4 for before, after in itertools.pairwise(speeds))
