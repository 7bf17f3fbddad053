"""Whatever the format, the same cells come out."""

import gzip

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse

from data_pipelines import Columns, InputError, ingest

GENES = ["TP53", "ACTB", "GAPDH", "CD3E", "CD8A"]
IDS = [f"ENSG{number:011d}" for number in range(5)]
KINDS = ["Gene Expression"] * 4 + ["Antibody Capture"]
CELLS = [f"AAAC{number}-1" for number in range(40)]


def _counts():
    return scipy.sparse.csr_matrix(np.random.default_rng(0).poisson(0.8, (40, 5)).astype(np.int32))


def _adata():
    return anndata.AnnData(_counts(), obs=pd.DataFrame(index=CELLS), var=pd.DataFrame({"ids": IDS}, index=GENES))


def _h5ad(folder):
    _adata().write_h5ad(folder / "a.h5ad")
    return folder / "a.h5ad"


def _zarr(folder):
    _adata().write_zarr(folder / "a.zarr")
    return folder / "a.zarr"


def _tenx_h5(folder, kinds=("Gene Expression",) * 5):
    with h5py.File(folder / "filtered.h5", "w") as file:
        matrix = file.create_group("matrix")
        counts = _counts()
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(counts, name)
        matrix["shape"] = [5, 40]
        matrix["barcodes"] = np.array(CELLS, "S")
        for name, values in (("id", IDS), ("name", GENES), ("feature_type", kinds)):
            matrix[f"features/{name}"] = np.array(values, "S")
    return folder / "filtered.h5"


def _tenx_folder(folder, kinds=("Gene Expression",) * 5, zipped=True):
    folder = folder / "filtered_feature_bc_matrix"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", _counts().T.tocoo())
    (folder / "features.tsv").write_text("".join(f"{a}\t{b}\t{c}\n" for a, b, c in zip(IDS, GENES, kinds, strict=True)))
    (folder / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in CELLS))
    for file in folder.iterdir() if zipped else ():
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())
        file.unlink()
    return folder


@pytest.mark.parametrize("write", [_h5ad, _zarr, _tenx_h5, _tenx_folder])
def test_every_format_gives_the_same_cells(write, tmp_path):
    store = ingest(write(tmp_path), tmp_path / "s", columns=Columns())
    assert store.panel.genes == tuple(GENES)
    assert (store.counts(store.stored_row) != _counts()).nnz == 0
    assert store.obs.index[store.stored_row].tolist() == CELLS


def test_features_that_are_no_genes_are_dropped_and_counted(tmp_path):
    for number, write in enumerate((_tenx_h5, _tenx_folder)):
        store = ingest(write(tmp_path, KINDS), tmp_path / str(number), columns=Columns())
        assert store.panel.genes == tuple(GENES[:4])
        assert (store.counts(store.stored_row) != _counts()[:, :4]).nnz == 0
        assert store.manifest["sources"][0]["dropped"] == 1


def test_repeated_symbols_of_10x_are_told_apart_by_their_ids(tmp_path):
    folder = _tenx_folder(tmp_path, zipped=False)
    (folder / "features.tsv").write_text("".join(f"{gene}\tTBCE\tGene Expression\n" for gene in IDS))
    store = ingest(folder, tmp_path / "s", columns=Columns())
    assert store.panel.genes == tuple(IDS)
    assert store.manifest["sources"][0]["gene_column"] == "gene_ids"


def test_formats_can_be_mixed_by_pattern_and_by_manifest(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        adata = _adata()
        adata.obs["line"] = str(number)
        adata.obs["quality"] = ["pass", "fail"] * 20
        adata.write_h5ad(data / f"plate{number}.h5ad")
    _tenx_folder(data)
    by_pattern = ingest(str(data / "plate*.h5ad"), tmp_path / "p", columns=Columns(context=("line",)))
    assert by_pattern.n_cells == 80
    (data / "all.yaml").write_text(
        "sources:\n  - path: plate?.h5ad\n    rename: {line: cell_line}\n    keep: {quality: pass}\n"
        "  - path: filtered_feature_bc_matrix\n    add: {cell_line: tenx}\n"
    )
    store = ingest(data / "all.yaml", tmp_path / "m", columns=Columns(context=("cell_line",)))
    assert store.obs["cell_line"].value_counts().to_dict() == {"0": 20, "1": 20, "tenx": 40}
    assert [source["cells_left_out"] for source in store.manifest["sources"]] == [20, 20, 0]
    kept = store.counts(store.stored_row).toarray()
    np.testing.assert_array_equal(kept[:20], _counts().toarray()[::2])


def test_counts_are_found_where_x_holds_none_and_it_is_said(tmp_path):
    adata = _adata()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.astype(np.float32).log1p()
    adata.write_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    assert (store.counts(store.stored_row) != _counts()).nnz == 0
    assert store.manifest["sources"][0]["slot"] == "counts"
    assert "counts holds raw counts and is taken instead" in store.manifest["notes"][0]


def test_obs_and_var_come_back_as_they_went_in(tmp_path):
    adata = _adata()
    adata.obs["whole"] = np.arange(40)
    adata.obs["share"] = np.linspace(0, 1, 40)
    adata.obs["yes"] = np.arange(40) % 3 == 0
    adata.obs["kind"] = pd.Categorical(["a", None] * 20, categories=["unused", "b", "a"], ordered=True)
    adata.obs["label"] = [f"text {number % 4}" for number in range(40)]
    adata.obs_names = ["same"] * 20 + CELLS[20:]
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns(context=("whole",)))
    read = anndata.read_zarr(tmp_path / "s")[store.stored_row]
    for name in adata.obs.columns:
        assert read.obs[name].tolist() == adata.obs[name].tolist() or name == "kind", name
    assert read.obs["kind"].astype(object).equals(adata.obs["kind"].astype(object).set_axis(read.obs.index))
    assert read.obs["_source_name"].tolist() == adata.obs_names.tolist()
    assert read.var["ids"].tolist() == IDS
    assert store.obs["whole"].iloc[store.stored_row].tolist() == [str(number) for number in range(40)]


def test_a_column_may_have_any_other_name(tmp_path):
    adata = _adata()
    adata.obs["two\nlines"] = "left out"
    adata.obs["__"] = "kept"
    adata.write_h5ad(tmp_path / "a.h5ad")
    (tmp_path / "m.yaml").write_text("sources:\n  - path: a.h5ad\n    add: {self: x, größe (µm): y}\n")
    store = ingest(tmp_path / "m.yaml", tmp_path / "s", columns=Columns())
    assert {*store.obs.columns} == {"__", "self", "größe (µm)", "_source", "_input_index", "_source_name"}
    assert {*anndata.read_zarr(tmp_path / "s").obs.columns} == {*store.obs.columns}


def test_a_store_is_an_input_too(tmp_path):
    first = ingest(_h5ad(tmp_path), tmp_path / "first.store", columns=Columns())
    again = ingest(tmp_path / "first.store", tmp_path / "again", columns=Columns(), seed=3)
    assert (again.counts(again.stored_row) != first.counts(np.arange(40))).nnz == 0


def test_a_store_that_lost_a_file_is_no_input(tmp_path):
    ingest(_h5ad(tmp_path), tmp_path / "first.store", columns=Columns())
    (tmp_path / "first.store" / "X" / "data" / "c" / "0").unlink()
    with pytest.raises(InputError, match=r"first.store lacks 1 of its files \(X/data/c/0\)"):
        ingest(tmp_path / "first.store", tmp_path / "again", columns=Columns())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sources: []", "lists no sources"),
        ("sources:\n  - path: none*.h5ad", "matches no file"),
        ("sources:\n  - path: a.h5ad\n    layr: X", "unknown setting 'layr' .nearest: layer"),
        ("sources:\n  - file: a.h5ad", "a source has no path"),
        ("sources: [", "is no YAML"),
        ("[" * 3000, "is no YAML"),
        ("sources:\n  - path: a.h5ad\n    add: {date: 2025-02-30}", "is no YAML"),
        ("sources:\n  - path: a.h5ad\n    add: {3: x}", "column 3 cannot be stored: it is no text"),
        ("sources:\n  - path: a.h5ad\n    add: {'': x}", "column '' cannot be stored"),
        ("sources:\n  - path: a.h5ad\n    add: {_index: x}", "it is reserved"),
        ("sources:\n  - path: a.h5ad\n    add: {_source: x}", "it is reserved"),
        ("sources:\n  - path: a.h5ad\n    add: {zarr.json: x}", "it is reserved"),
        ("sources:\n  - path: a.h5ad\n    add: {'..': x}", "it is reserved"),
        ("sources:\n  - path: a.h5ad\n    rename: {ids: a/b}", "it has a slash"),
        ('sources:\n  - path: a.h5ad\n    add: {"a\\nb": x}', "a character that cannot be printed"),
        ("sources:\n  - path: a.h5ad\n    add: {" + "n" * 300 + ": x}", "longer than 200 bytes"),
        ("sources:\n  - path: a.h5ad\n    rename: {lin: x}", "no obs column 'lin' to rename"),
        ("sources:\n  - path: a.h5ad\n    keep: {quality: pass}", "no obs column 'quality' to keep cells by"),
        ("sources:\n  - a.h5ad\n  - ./a.h5ad", "listed twice"),
        ("sources:\n  - path: a.h5ad\n    keep: {ids: nothing}\n    add: {ids: b}", "leave no cell"),
    ],
)
def test_wrong_manifests_say_what_to_write(text, match, tmp_path):
    _h5ad(tmp_path)
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        ingest(tmp_path / "m.yaml", tmp_path / "s", columns=Columns())
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"m.yaml", "a.h5ad"}
