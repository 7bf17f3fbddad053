import os
import pathlib

import anndata
import numpy as np
import pytest
import scipy.sparse

from data_pipelines import CellStore, Columns, InputError, ingest, load_split, load_statistics, make_split
from data_pipelines.location import Location
from data_pipelines.splits import RandomCells
from tests.buckets import new_bucket, s3_server


@pytest.fixture
def file(tmp_path):
    counts = np.random.default_rng(0).poisson(0.7, (60, 12)).astype(np.int32)
    anndata.AnnData(scipy.sparse.csr_matrix(counts)).write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_store_at_a_url_is_like_one_in_a_folder(kind, file, tmp_path):
    url = f"file://{tmp_path}/remote" if kind == "file" else f"memory://{tmp_path.name}/remote"
    here = ingest(file, tmp_path / "here", columns=Columns())
    there = ingest(file, url, columns=Columns(), scratch=tmp_path / "scratch")
    assert there.hash == here.hash
    assert (there.counts(np.arange(60)) != here.counts(np.arange(60))).nnz == 0
    assert (anndata.read_zarr(there.path.zarr()).X != anndata.read_zarr(here.path.zarr()).X).nnz == 0
    for key in here.path.list_keys():
        assert there.path.read(key) == here.path.read(key), key
    split = make_split(there, RandomCells())
    statistics = load_statistics(there, split)
    opened = CellStore.open(url)
    assert load_split(opened).hash == split.hash
    np.testing.assert_array_equal(load_statistics(opened, split).histogram, statistics.histogram)
    assert ingest(file, url, columns=Columns(), scratch=tmp_path / "scratch").hash == here.hash
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_url_needs_a_folder_for_what_is_half_done(file):
    with pytest.raises(InputError, match="pass --scratch FOLDER"):
        ingest(file, "memory://nowhere/s", columns=Columns())


def test_other_urls_are_refused():
    with pytest.raises(InputError, match="ftp://x cannot be stored in"):
        Location("ftp://x")


@pytest.mark.parametrize("root", ["folder", "memory"])
def test_keys_are_whole_names(root, tmp_path):
    place = Location(tmp_path if root == "folder" else f"memory://{tmp_path.name}")
    place.write("a/b.json", b"1")
    place.write("a/b.json.old", b"2")
    assert place.exists("a/b.json")
    assert not place.exists("a/b")
    assert place.read("a/none") is None
    assert place.list_keys("a/b") == ["a/b.json", "a/b.json.old"]
    place.delete(["a/b.json"])
    assert place.list_keys() == ["a/b.json.old"]
    assert (place / "a").read("b.json.old") == b"2"


def test_a_folder_is_a_path_and_a_bucket_is_none(tmp_path):
    assert pathlib.Path(Location(tmp_path)) == tmp_path
    with pytest.raises(TypeError, match="no folder of this machine"):
        os.fspath(Location("gs://bucket/store"))


def test_another_s3_server_is_found_by_the_environment():
    with s3_server() as environment:
        place = Location(f"{new_bucket(environment)}/stores/a")
        place.write("x/y", b"z")
        assert place.read("x/y") == b"z" and place.list_keys() == ["x/y"]
