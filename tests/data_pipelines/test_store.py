import pickle
import shutil

import anndata
import numpy as np
import pytest

from data_pipelines import CellStore, Columns, InputError, RandomCells, ingest, load_statistics, make_split


def test_rows_come_in_the_order_asked(shared_store):
    everything = anndata.read_zarr(shared_store.path.path).X
    rng = np.random.default_rng(0)
    for rows in ([], [5], [7, 7, 3], rng.integers(shared_store.n_cells, size=200), np.arange(shared_store.n_cells)):
        counts = shared_store.counts(rows)
        assert counts.dtype == np.int32
        assert counts.shape == (len(rows), shared_store.n_genes)
        assert (counts != everything[np.asarray(rows, int)]).nnz == 0


def test_far_apart_rows_are_read_in_pieces(shared_store, monkeypatch):
    everything = anndata.read_zarr(shared_store.path.path).X
    monkeypatch.setattr("data_pipelines.store._GAP", 50)
    rows = np.array([0, 1, 3, 90, 91, 300, 439])
    assert (shared_store.counts(rows) != everything[rows]).nnz == 0


def test_cells_without_counts(tmp_path):
    dense = np.zeros((6, 3), np.int32)
    dense[5] = 1
    anndata.AnnData(dense).write_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    assert store.counts(store.stored_row[:5]).nnz == 0
    np.testing.assert_array_equal(store.expressed, store.counts(np.arange(6)).getnnz(1))


def test_rows_outside_are_refused(shared_store):
    with pytest.raises(IndexError, match=r"0\.\.439"):
        shared_store.counts([440])


def test_what_is_no_store_does_not_open(shared_store, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        CellStore.open(tmp_path / "none")
    with pytest.raises(InputError, match="is not a cell store"):
        CellStore.open(tmp_path)
    plain = anndata.AnnData(np.ones((2, 2)))
    plain.write_zarr(tmp_path / "other")
    with pytest.raises(InputError, match="no complete cell store"):
        CellStore.open(tmp_path / "other")


def test_a_store_with_a_missing_file_does_not_open(store):
    """Readers of zarr take missing chunks for zeros: a model would be trained on them."""
    (store.path.path / "X" / "data" / "c" / "0").unlink()
    (store.path.path / "obs" / "cell_line" / "codes" / "c" / "0").unlink()
    with pytest.raises(InputError, match=r"lacks 2 of its files \(X/data/c/0\)"):
        CellStore.open(store.path)


def test_a_store_without_the_list_of_its_files_does_not_open(store, tmp_path):
    (store.path.path / "contents" / "files.txt").unlink()
    (store.path.path / "X" / "data" / "c" / "0").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its files \(contents/files.txt\)"):
        CellStore.open(store.path)
    # AnnData writes no such list: what it writes may hold other cells, and is ingested again.
    anndata.read_zarr(store.path.path).write_zarr(tmp_path / "written")
    with pytest.raises(InputError, match=r"lacks 1 of its files \(contents/files.txt\)"):
        CellStore.open(tmp_path / "written")


def test_another_store_at_the_same_place_is_read_anew(tmp_path):
    for value in (1, 2):
        anndata.AnnData(np.full((6, 3), value)).write_h5ad(tmp_path / "a.h5ad")
        store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
        assert set(store.counts(np.arange(6)).data) == {value}
        shutil.rmtree(tmp_path / "s")


@pytest.mark.parametrize("name", ["X/data/c/0", "X/indices/c/0", "X/indptr/c/0", "obs/target_gene/codes/c/0"])
def test_a_file_that_is_cut_short_is_named(name, store):
    path = store.path.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="is damaged and cannot be read") as caught:
        opened = CellStore.open(store.path)
        opened.counts(np.arange(5))
        opened.obs  # noqa: B018
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(store, monkeypatch):
    monkeypatch.setattr("data_pipelines.store.FORMAT", 99)
    with pytest.raises(InputError, match="format 2; this one reads 99"):
        CellStore.open(store.path.path)


def test_a_store_travels_to_another_process(shared_store):
    copy = pickle.loads(pickle.dumps(shared_store))
    assert (copy.counts([1, 2]) != shared_store.counts([1, 2])).nnz == 0


@pytest.mark.filterwarnings("error:Object at:UserWarning")
def test_splits_and_statistics_do_not_disturb_anndata(store):
    load_statistics(store, make_split(store, RandomCells()))
    assert anndata.read_zarr(store.path.path).shape == (store.n_cells, store.n_genes)
