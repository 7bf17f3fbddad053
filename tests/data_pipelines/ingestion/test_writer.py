import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import CellStore, InputError
from data_pipelines.ingestion.writer import complete, lay_out
from data_pipelines.location import Location

SHAPE = (200, 30)


def _counts():
    counts = scipy.sparse.random(*SHAPE, 0.3, "csr", rng=np.random.default_rng(0), dtype=np.float64).astype(np.uint16)
    counts.data = np.arange(1, counts.nnz + 1, dtype=np.uint16)
    return counts


def _complete(store, counts):
    obs = pd.DataFrame(index=[f"c{i}" for i in range(SHAPE[0])])
    complete(store, counts.indptr, obs, pd.DataFrame(index=[f"g{i}" for i in range(SHAPE[1])]), {})


def test_whole_shards_make_an_anndata(tmp_path):
    counts, store = _counts(), Location(tmp_path / "s")
    lay_out(store, SHAPE, np.dtype(np.uint16), counts.nnz, chunk=16, shard=64)
    for name in ("data", "indices"):
        store.array(f"X/{name}", write=True).write(getattr(counts, name)).result()
    _complete(store, counts)
    assert (counts != anndata.read_zarr(tmp_path / "s").X).nnz == 0
    assert len(list((tmp_path / "s" / "X" / "data" / "c").iterdir())) == -(-counts.nnz // 64)


def test_nothing_opens_before_it_is_complete_and_what_is_written_stays(tmp_path):
    counts, store = _counts(), Location(tmp_path / "s")
    lay_out(store, SHAPE, np.dtype(np.uint16), counts.nnz, chunk=16, shard=64)
    store.array("X/data", write=True).write(counts.data).result()
    (tmp_path / "s" / "X" / "data" / "c" / "0.__lock").write_bytes(b"of a killed process")
    lay_out(store, SHAPE, np.dtype(np.uint16), counts.nnz, chunk=16, shard=64)
    with pytest.raises(InputError, match="is not a cell store"):
        CellStore.open(tmp_path / "s")
    store.array("X/indices", write=True).write(counts.indices).result()
    _complete(store, counts)
    assert (counts != anndata.read_zarr(tmp_path / "s").X).nnz == 0
    assert not [key for key in store.list_keys() if "lock" in key]
