"""Every file of a store, with a bit flipped or cut short: told by name, or nothing that is read from it changes."""

import pathlib
import shutil

import numpy as np
import pytest

from data_pipelines import CellStore, InputError, RandomCells, load_split, load_statistics, make_split
from data_pipelines.contents import CHECKSUMS


@pytest.fixture(scope="module")
def whole(shared_store, tmp_path_factory) -> CellStore:
    """With a split and its statistics."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    # Without what other tests have put into the shared one.
    shutil.copytree(shared_store.path.path, folder, ignore=shutil.ignore_patterns("splits", "statistics"))
    store = CellStore.open(folder)
    load_statistics(store, make_split(store, RandomCells()))
    return store


def everything(folder: pathlib.Path) -> list:
    """What can be read of a store."""
    store = CellStore.open(folder)
    counts = store.counts(np.arange(store.n_cells))
    split = load_split(store)
    statistics = load_statistics(store, split)
    return [
        store.hash,
        [array.tobytes() for array in (counts.data, counts.indices, counts.indptr, store.measured)],
        store.obs.to_csv(),
        store.var.to_csv(),
        {name: np.asarray(value).tolist() for name, value in store.planted_truth.items()},
        [split.kind, split.settings, split.hash, split.held_out],
        [statistics.mean.tobytes(), repr(statistics.conditions), repr(statistics.vocabulary), statistics.n_cells],
    ]


def flipped(content: bytes, place: float) -> bytes:
    at = min(int(place * len(content)), len(content) - 1)
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


DAMAGES = {
    "a bit at the start": lambda content: flipped(content, 0.0),
    "a bit at a third": lambda content: flipped(content, 1 / 3),
    "a bit at two thirds": lambda content: flipped(content, 2 / 3),
    "a bit at the end": lambda content: flipped(content, 1.0),
    "cut to a half": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "emptied": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_any_file_is_told_by_its_name_or_changes_nothing(damage, whole, tmp_path):
    before = everything(whole.path.path)
    folder = tmp_path / "store"
    shutil.copytree(whole.path.path, folder)
    harmless = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        key, content = str(file.relative_to(folder)), file.read_bytes()
        file.write_bytes(DAMAGES[damage](content))
        try:
            assert everything(folder) == before, key
            harmless.append(key)
        except InputError as error:
            named = str(file.parent) if key.startswith("statistics/") else key
            assert named in str(error) and "\n" not in str(error), (key, str(error))
        file.write_bytes(content)
    # Metadata of groups and arrays lies in the root's as well, and is read from there; a zip has bytes without meaning.
    assert all(key.endswith(("zarr.json", ".npz")) for key in harmless), harmless
    assert not {f"X/{name}/zarr.json" for name in ("data", "indices", "indptr")} & set(harmless)


def test_a_flipped_bit_in_a_chunk_names_the_shard(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole.path.path, folder)
    shard = folder / "X" / "data" / "c" / "0"
    shard.write_bytes(flipped(shard.read_bytes(), 0.3))
    with pytest.raises(InputError, match=r"X/data/c/0.*damaged|damaged.*X/data/c/0"):
        CellStore.open(folder).counts([0])


def test_a_store_from_before_there_were_checksums_is_read(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole.path.path, folder)
    (folder / CHECKSUMS).unlink()
    listed = folder / "contents" / "files.txt"
    listed.write_text("\n".join(line for line in listed.read_text().splitlines() if line != CHECKSUMS))
    assert everything(folder) == everything(whole.path.path)
