"""What devices are known, and the refusal to train on a CPU beside an idle accelerator."""

import pytest

from data_pipelines.errors import InputError
from experiments import accelerators
from experiments.__main__ import run
from experiments.accelerators import accelerator_of, chips_of, use_device


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"), ("TPU v5e", "v5e"), ("TPU v5", "v5p"), ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"),
        ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA A100-SXM4-40GB", "a100"), ("v5e:16x16", "v5e"),
    ],
)  # fmt: skip
def test_device_kinds_are_known_by_any_of_their_names(kind, name):
    chip = accelerator_of(kind)
    assert chip is not None and chip.name == name


def test_an_unknown_device_has_no_peak():
    assert accelerator_of("cpu") is None


def test_topologies_are_read():
    chip, chips = chips_of("v5p:8x8x8")
    assert (chip.name, chips) == ("v5p", 512)
    for wrong in ("v9:2x2", "v5e", "v5e:0x4", "v5e:axb"):
        with pytest.raises(InputError, match="--topology"):
            chips_of(wrong)


@pytest.fixture
def visible(monkeypatch):
    """An accelerator that jax, here without any, does not use."""
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(accelerators, "accelerator_visible", lambda: True)


def test_an_accelerator_that_jax_does_not_use_ends_the_start(visible, store, tmp_path, capsys):
    assert run(["train", "demo", "--store", str(store), "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "jax has none" in said and "--device cpu" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_cpu_can_be_asked_for(visible, monkeypatch):
    use_device("cpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    use_device("auto")


def test_an_accelerator_is_a_device_file_or_a_tpu_hosts_environment(monkeypatch, tmp_path):
    class Devices(type(tmp_path)):
        def __new__(cls, *_):
            return tmp_path

    monkeypatch.setattr(accelerators.pathlib, "Path", Devices)
    for name in ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert not accelerators.accelerator_visible()
    (tmp_path / "nvidia0").touch()
    assert accelerators.accelerator_visible()
    (tmp_path / "nvidia0").unlink()
    monkeypatch.setenv("TPU_WORKER_ID", "0")
    assert accelerators.accelerator_visible()
