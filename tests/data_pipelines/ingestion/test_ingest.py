import contextlib
import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import CellStore, Columns, InputError, ingest
from data_pipelines.ingestion import unordered
from data_pipelines.ingestion.writer import CHUNK
from tests.data_pipelines.conftest import SCREEN


def _write(path, counts, genes=None, obs=None, **slots):
    genes = genes or [f"g{i}" for i in range(counts.shape[1])]
    obs = pd.DataFrame(obs or {}, index=[f"c{i}" for i in range(counts.shape[0])])
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes), **slots).write_h5ad(path)
    return path


def _counts(cells=50, genes=12, seed=0, dtype=np.int32):
    dense = np.random.default_rng(seed).poisson(0.7, (cells, genes))
    return scipy.sparse.csr_matrix(dense.astype(dtype))


def test_read_zarr_gives_exactly_the_input_back(screen, shared_store):
    read = anndata.read_zarr(shared_store.path.path)
    place = read.obs["_input_index"].to_numpy()
    assert sorted(place) == list(range(screen.n_obs))
    assert (screen.X[place] != read.X).nnz == 0
    assert list(read.obs_names) == list(screen.obs_names[place])
    assert list(read.var_names) == list(screen.var_names)
    for column in screen.obs.columns:
        assert read.obs[column].astype(str).tolist() == screen.obs[column].astype(str).iloc[place].tolist()
    np.testing.assert_array_equal(
        read.uns["planted_truth"]["log2_fold_change"], screen.uns["planted_truth"]["log2_fold_change"]
    )


@pytest.mark.parametrize("layout", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, lambda x: x.toarray()])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_every_layout_and_whole_number_type_gives_the_same_cells(layout, dtype, tmp_path):
    counts = _counts()
    store = ingest(_write(tmp_path / "a.h5ad", layout(counts.astype(dtype))), tmp_path / "s", columns=Columns())
    assert (store.counts(store.stored_row) != counts).nnz == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.float32])
@pytest.mark.parametrize("by_columns", [False, True])
def test_entries_that_are_stored_twice_are_summed_exactly(dtype, by_columns, tmp_path):
    file = _write(tmp_path / "a.h5ad", _counts(4, 4, dtype=dtype))
    value = {np.uint8: 200, np.int8: 100, bool: 1, np.float32: 2**24}[dtype]
    with h5py.File(file, "r+") as stored:
        stored["X"].attrs["encoding-type"] = "csc_matrix" if by_columns else "csr_matrix"
        for name, values in {
            "data": np.full(12, value).astype(dtype),
            "indices": np.full(12, 3),
            "indptr": np.arange(0, 13, 3),
        }.items():
            del stored["X"][name]
            stored["X"][name] = values
    store = ingest(file, tmp_path / "s", columns=Columns())
    dense = store.counts(store.stored_row).toarray()
    assert ((dense.T if by_columns else dense)[:, 3] == 3 * value).all()


def test_memory_bound_does_not_change_the_store(tmp_path, monkeypatch):
    """With room for a few cells only: many blocks, many buckets, several shards; the same bytes."""
    file = _write(tmp_path / "a.h5ad", _counts(3000, 400))
    monkeypatch.setattr("data_pipelines.ingestion.writer.SHARD", 2 * CHUNK)
    wide = ingest(file, tmp_path / "wide", columns=Columns())
    seen = []
    narrow = ingest(file, tmp_path / "narrow", columns=Columns(), memory_mb=1, progress=lambda *step: seen.append(step))
    assert len([step for step in seen if step[0] == "writing"]) > 3
    files = sorted(path.relative_to(wide.path.path) for path in wide.path.path.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(narrow.path.path) for path in narrow.path.path.rglob("*") if path.is_file())
    for file in files:
        assert (wide.path.path / file).read_bytes() == (narrow.path.path / file).read_bytes(), file


def test_column_blocks_are_bounded_too(tmp_path, monkeypatch):
    counts = _counts(300, 40)
    monkeypatch.setattr("data_pipelines.ingestion.unordered.BYTES_PER_ENTRY", 2**11)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))  # entries are sorted in the work folder
    file = _write(tmp_path / "a.h5ad", scipy.sparse.csc_matrix(counts))
    store = ingest(file, tmp_path / "s", columns=Columns(), memory_mb=1)
    assert (store.counts(store.stored_row) != counts).nnz == 0


def test_sorting_columns_by_cells_opens_few_files(monkeypatch):
    columns, opened = scipy.sparse.csc_matrix(_counts(300, 40)), []
    monkeypatch.setattr(unordered, "named", lambda path: opened.append(path) or contextlib.nullcontext())
    matrix = unordered.CscMatrix(columns.data, columns.indices, columns.indptr, columns.shape, "a.h5ad (X)")
    blocks = list(matrix.blocks(2**12))
    assert len(blocks) > 20
    assert len(opened) <= len(blocks)


def test_the_shuffle_is_global(tmp_path):
    """Neighbours in the input are not neighbours in the store, and another seed gives another order."""
    file = _write(tmp_path / "a.h5ad", _counts(500))
    first, other = (ingest(file, tmp_path / f"s{seed}", columns=Columns(), seed=seed) for seed in (0, 1))
    place = first.obs["_input_index"].to_numpy()
    assert np.mean(np.abs(np.diff(place)) < 25) < 0.2
    assert abs(np.corrcoef(place, np.arange(500))[0, 1]) < 0.2
    assert not np.array_equal(place, other.obs["_input_index"])
    assert first.hash != other.hash


def test_files_are_joined_over_the_union_of_their_genes(tmp_path):
    a = _write(tmp_path / "a.h5ad", _counts(20, 3, 1), ["x", "y", "z"], {"donor": ["1"] * 20})
    b = _write(tmp_path / "b.h5ad", _counts(30, 3, 2), ["z", "w", "x"], {"donor": [2] * 30})
    store = ingest([a, b], tmp_path / "s", columns=Columns(context=("donor",)))
    assert store.panel.genes == ("x", "y", "z", "w")
    assert store.measured.tolist() == [[True, True, True, False], [True, False, True, True]]
    matrix = anndata.read_zarr(store.path.path).X
    ends = matrix.indptr[1:-1]
    rises = np.diff(matrix.indices) > 0
    assert np.delete(rises, ends[(ends > 0) & (ends < matrix.nnz)] - 1).all()  # sorted within every row
    dense = store.counts(store.stored_row).toarray()
    np.testing.assert_array_equal(dense[:20, :3], _counts(20, 3, 1).toarray())
    np.testing.assert_array_equal(dense[20:][:, [2, 3, 0]], _counts(30, 3, 2).toarray())
    assert store.source[store.stored_row].tolist() == [0] * 20 + [1] * 30
    assert store.obs["donor"].iloc[store.stored_row].tolist() == ["1"] * 20 + ["2"] * 30
    assert store.obs.index.is_unique


def test_values_stay_what_they_are_where_another_file_lacks_the_column(tmp_path):
    obs = {
        "id": np.arange(4) + 2**60 + 1,
        "yes": np.arange(4) % 2 == 0,
        "kind": pd.Categorical([1, 2, 1, None]),
        "name": pd.Categorical(["x", "y", "x", None]),
    }
    a = _write(tmp_path / "a.h5ad", _counts(4), obs=obs)
    b = _write(tmp_path / "b.h5ad", _counts(3), obs={"kind": pd.Categorical([3, 3, 1])})
    store = ingest([a, b], tmp_path / "s", columns=Columns())
    read = anndata.read_zarr(tmp_path / "s").obs.iloc[store.stored_row]
    assert read["id"].tolist() == [*obs["id"], pd.NA, pd.NA, pd.NA]
    assert read["yes"].tolist() == [True, False, True, False, pd.NA, pd.NA, pd.NA]
    assert read["kind"].cat.categories.tolist() == [1, 2, 3]
    assert read["kind"].astype(object).fillna("none").tolist() == [1, 2, 1, "none", 3, 3, 1]
    assert read["name"].cat.categories.tolist() == ["x", "y"]


def test_counts_take_the_smallest_type_that_holds_them(tmp_path):
    for largest, dtype in ((65_535, np.uint16), (65_536, np.uint32)):
        counts = scipy.sparse.csr_matrix(np.array([[largest, 0], [1, 2], [1, 1]]))
        store = ingest(_write(tmp_path / f"{largest}.h5ad", counts), tmp_path / str(largest), columns=Columns())
        assert anndata.read_zarr(store.path.path).X.dtype == dtype
        assert store.counts(store.stored_row).max() == largest


def test_layers_and_raw_can_be_chosen(tmp_path):
    counts = _counts()
    logged = counts.astype(np.float32).log1p()
    file = _write(tmp_path / "a.h5ad", logged, layers={"counts": counts})
    store = ingest(file, tmp_path / "s", columns=Columns(), layer="counts")
    assert (store.counts(store.stored_row) != counts).nnz == 0
    with pytest.raises(InputError, match=r"no layers\['count'\] \(present: X, counts\)"):
        ingest(file, tmp_path / "t", columns=Columns(), layer="count")
    adata = anndata.AnnData(counts)
    adata.raw = adata.copy()
    adata.X = logged
    adata.write_h5ad(tmp_path / "raw.h5ad")
    raw = ingest(tmp_path / "raw.h5ad", tmp_path / "r", columns=Columns(), layer="raw.X")
    assert (raw.counts(raw.stored_row) != counts).nnz == 0


def test_missing_labels_become_unknown_and_names_unique(tmp_path):
    obs = pd.DataFrame({"donor": ["a", None, "b", np.nan]}, index=["c", "c", "d", "d"])
    anndata.AnnData(_counts(4), obs=obs).write_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns(context=("donor",)))
    assert store.obs["donor"].iloc[store.stored_row].tolist() == ["a", "unknown", "b", "unknown"]
    assert store.obs.index.is_unique


def test_store_says_nothing_about_time_and_place(shared_store, screen_file):
    text = json.dumps(shared_store.manifest)
    assert str(screen_file.parent) not in text
    assert shared_store.manifest["sources"][0]["name"] == "screen.h5ad"
    assert shared_store.manifest["totals"]["cells"] == shared_store.n_cells


def test_same_store_again_is_returned_and_another_refused(screen_file, store):
    before = (store.path.path / "zarr.json").stat().st_mtime_ns
    assert ingest(screen_file, store.path.path, columns=SCREEN).hash == store.hash
    assert (store.path.path / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="already holds another cell store"):
        ingest(screen_file, store.path.path, columns=SCREEN, seed=1)


def test_unrelated_folder_is_not_overwritten(screen_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="no complete cell store"):
        ingest(screen_file, tmp_path / "mine", columns=SCREEN)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_interrupted_ingest_leaves_nothing_that_opens(screen_file, tmp_path):
    def stop(stage, done, total):
        if stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(screen_file, tmp_path / "s", columns=SCREEN, progress=stop)
    # What is done stays, and does not open; the next run goes on from there.
    assert [path.name for path in tmp_path.iterdir()] == [".s.partial"]
    with pytest.raises(InputError):
        CellStore.open(tmp_path / ".s.partial" / "store")
    ingest(screen_file, tmp_path / "s", columns=SCREEN)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
