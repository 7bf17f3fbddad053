import anndata
import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.ingestion.writer import StoreWriter


def test_pieces_of_any_size_become_whole_shards(tmp_path):
    counts = scipy.sparse.random(200, 30, 0.3, "csr", rng=np.random.default_rng(0), dtype=np.float64)
    counts.data = np.arange(1, counts.nnz + 1, dtype=np.float64)
    writer = StoreWriter(tmp_path / "s", (200, 30), np.dtype(np.uint16), counts.nnz, chunk=16, shard=64)
    for start in range(0, 200, 7):
        writer.append(counts[start : start + 7])
    obs = pd.DataFrame(index=[f"c{i}" for i in range(200)])
    writer.finish(obs, pd.DataFrame(index=[f"g{i}" for i in range(30)]), {})
    assert (counts != anndata.read_zarr(tmp_path / "s").X).nnz == 0
    assert len(list((tmp_path / "s" / "X" / "data" / "c").iterdir())) == -(-counts.nnz // 64)
