import anndata
import numpy as np
import pytest
import scipy.sparse

from data_pipelines import Columns, RandomCells, ingest, make_split
from data_pipelines.gene_order import coexpression_order

PROGRAMS, SIZE = 6, 8


@pytest.fixture
def store(tmp_path):
    """Six programs of eight genes that vary together, in no order."""
    rng = np.random.default_rng(0)
    program = rng.permutation(np.repeat(np.arange(PROGRAMS), SIZE))
    rate = 3.0 * np.exp(0.8 * rng.normal(size=(600, PROGRAMS)))
    counts = scipy.sparse.csr_matrix(rng.poisson(rate[:, program]).astype(np.int32))
    anndata.AnnData(counts).write_h5ad(tmp_path / "a.h5ad")
    return ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns()), program


def test_genes_of_a_program_come_one_after_another(store):
    store, program = store
    order = coexpression_order(store, make_split(store, RandomCells()), group=SIZE)
    assert sorted(order) == list(range(PROGRAMS * SIZE))
    groups = program[order].reshape(PROGRAMS, SIZE)
    assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize("group", [1, 5, 7, 100])
def test_every_gene_comes_once_whatever_the_group(store, group):
    order = coexpression_order(store[0], make_split(store[0], RandomCells()), group=group)
    assert sorted(order) == list(range(PROGRAMS * SIZE))
