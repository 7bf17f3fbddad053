import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingshu_jax.parallel.choice import BYTES_PER_WEIGHT, STATE_SHARE, Demands, choose_mesh
from lingshu_jax.parallel.config import MeshConfig

PAPER = Demands(batch_size=256, heads=10, width=640, ffn_width=2560, weights=113_000_000, device_bytes=15.75 * 2**30)


def sizes(config: MeshConfig, devices: int, demands: Demands = PAPER) -> tuple:
    return choose_mesh(config, demands, devices).sizes


def test_a_state_that_fits_is_copied_and_not_shared():
    assert sizes(MeshConfig(), 8) == (8, 1, 1)
    assert sizes(MeshConfig(), 256) == (256, 1, 1)


def test_a_state_that_does_not_fit_is_shared_by_as_few_devices_as_hold_it():
    large = dataclasses.replace(PAPER, weights=1_000_000_000)
    data, fsdp, tensor = sizes(MeshConfig(), 64, large)
    assert (data * fsdp, tensor) == (64, 1)
    share = BYTES_PER_WEIGHT * large.weights / (STATE_SHARE * large.device_bytes)
    assert fsdp >= share > fsdp / 2


def test_devices_beyond_the_batch_share_heads():
    assert sizes(MeshConfig(), 512) == (256, 1, 2)


@pytest.mark.parametrize(
    "config", [MeshConfig(fsdp=8), MeshConfig(data=4), MeshConfig(tensor=2), MeshConfig(data=2, fsdp=2, tensor=2)]
)
def test_what_is_set_is_kept(config):
    found = sizes(config, 8)
    assert all(wanted in (None, size) for wanted, size in zip(config.sizes, found, strict=True))
    assert math.prod(found) == 8


IMPOSSIBLE = {
    "heads": (MeshConfig(tensor=4), 8, r"model.heads 10 do not divide over tensor = 4"),
    "width": (MeshConfig(fsdp=3), 6, r"model.width 640 does not divide over fsdp = 3"),
    "batch": (MeshConfig(tensor=1), 512, r"batch_size 256 does not divide over data \* fsdp = 512"),
    "devices": (MeshConfig(fsdp=3), 8, r"mesh.fsdp 3 need a multiple of 3 devices, there are 8"),
    "product": (MeshConfig(data=2, fsdp=2, tensor=1), 8, r"need 4 devices, there are 8"),
    "no mesh at all": (MeshConfig(), 1024, r"on 1024 devices training.batch_size 256 does not divide"),
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_an_impossible_mesh_says_why_and_names_possible_ones(why):
    config, devices, reason = IMPOSSIBLE[why]
    demands = dataclasses.replace(PAPER, batch_size=192) if why == "width" else PAPER
    with pytest.raises(ValueError, match=reason) as error:
        choose_mesh(config, demands, devices)
    said = str(error.value)
    assert "\n" not in said
    if why == "no mesh at all":
        assert "Use 640 devices, or --training.batch-size 512" in said
    else:
        data, fsdp, tensor = (int(word) for word in said.split("Nearest: ")[1].split(";")[0].rstrip(".").split()[1::2])
        named = MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
        assert choose_mesh(named, demands, devices) == named


def test_a_million_devices_are_answered_at_once():
    with pytest.raises(ValueError, match=r"Use 2560 devices, or --training.batch-size 100000 "):
        choose_mesh(MeshConfig(), PAPER, 1_000_000)


@given(
    devices=st.integers(1, 64),
    batch=st.integers(1, 8).map(lambda n: 32 * n),
    heads=st.integers(1, 12),
    weights=st.integers(0, 10**9),
)
def test_what_is_chosen_divides_everything(devices, batch, heads, weights):
    demands = Demands(
        batch_size=batch, heads=heads, width=heads * 64, ffn_width=heads * 256, weights=weights, device_bytes=2**33
    )
    try:
        found = choose_mesh(MeshConfig(), demands, devices)
    except ValueError as error:
        assert "impossible mesh" in str(error)
        return
    data, fsdp, tensor = (size or 0 for size in found.sizes)
    assert data * fsdp * tensor == devices
    assert batch % (data * fsdp) == 0 and heads % tensor == 0 and heads * 64 % fsdp == 0
