import pytest
from etils import epath

from lingshu_jax.training.integrity import damage, difference, write_checksums


@pytest.fixture
def folder(tmp_path):
    path = epath.Path(tmp_path / "7")
    (path / "state" / "d").mkdir(parents=True)
    (path / "ema").mkdir()
    (path / "state" / "d" / "0a").write_bytes(bytes(range(256)) * 20_000)
    (path / "state" / "manifest").write_text("m")
    (path / "ema" / "array").write_bytes(b"weights")
    write_checksums(path)
    (path / "_CHECKPOINT_METADATA").write_text("{}")
    return path


def test_a_whole_checkpoint_is_whole(folder):
    assert damage(folder) is None and difference(folder) is None


def flip(path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_bit_is_found_by_reading(folder):
    flip(folder / "state" / "d" / "0a", 5_000_000)
    assert difference(folder) is None
    assert damage(folder) == "state/d/0a is not what was written"


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (lambda folder: (folder / "state/d/0a").write_bytes(b"abc"), "state/d/0a has 3 bytes of 5,120,000"),
        (lambda folder: (folder / "ema/array").unlink(), "ema/array is missing"),
        (lambda folder: (folder / "ema").rmtree(), "ema/array is missing"),
        (lambda folder: (folder / "checksums.json").unlink(), "it was not written to the end"),
        (lambda folder: (folder / "checksums.json").write_text('{"a": '), "checksums.json cannot be read"),
        (lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(), "_CHECKPOINT_METADATA is missing"),
        (lambda folder: (folder / "_CHECKPOINT_METADATA").write_bytes(b"\0\0"), "_CHECKPOINT_METADATA cannot be read"),
        (lambda folder: (folder.rmtree(), folder.mkdir()), "its folder is empty"),
    ],
)
def test_damage_is_named_without_reading_everything(folder, hurt, said):
    hurt(folder)
    assert difference(folder) == said and damage(folder) == said


INDEX = '{"item_handlers": {"ema": "", "state": ""}, "commit_timestamp_nsecs": 5}'


@pytest.fixture
def unsummed(folder):
    (folder / "checksums.json").unlink()
    (folder / "_CHECKPOINT_METADATA").write_text(INDEX)
    return folder


def test_what_orbax_finished_is_whole_without_checksums(unsummed):
    assert difference(unsummed) is None and damage(unsummed) is None


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (lambda folder: (folder / "ema").rmtree(), "ema is missing"),
        (lambda folder: (folder / "ema/array").unlink(), "ema is missing"),
        (lambda folder: (folder / "_CHECKPOINT_METADATA").write_text(INDEX.replace("5", "null")), "it was not written"),
        (lambda folder: (folder / "_CHECKPOINT_METADATA").write_text("[]"), "it was not written"),
        (lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(), "it was not written"),
    ],
)
def test_without_checksums_what_orbax_did_not_finish_is_damaged(unsummed, hurt, said):
    hurt(unsummed)
    assert damage(unsummed).startswith(said)


def test_only_the_items_that_will_be_read_matter(folder):
    (folder / "state" / "d" / "0a").unlink()
    assert damage(folder, ("ema",)) is None
    flip(folder / "ema" / "array", 0)
    assert damage(folder, ("ema",)) == "ema/array is not what was written"
