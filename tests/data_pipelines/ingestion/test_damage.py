"""Files that are damaged, or odd as no program writes them: one line that names the file, and nothing left behind."""

import errno
import gzip

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse

from data_pipelines import Columns, InputError, ingest, inspect_files
from data_pipelines.ingestion.damage import reading

COUNTS = scipy.sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (40, 12)).astype(np.float32))


def _adata(counts=COUNTS):
    obs = pd.DataFrame({"line": ["A", "B"] * 20}, index=[f"c{i}" for i in range(40)])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(12)]))


def _instead(name, **value):
    """Another dataset in place of one of the file's; a group without `data`."""

    def change(file):
        del file[name]
        file.create_dataset(name, **value) if value else file.create_group(name)

    return change


def _linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def _garbled(file):
    data = file["X/data"][:]
    del file["X/data"]
    chunk = file.create_dataset("X/data", data=data, compression="gzip").id.get_chunk_info(0)
    file.flush()
    with open(file.filename, "r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\xff" * 40)


H5AD = {
    "a damaged chunk": (_garbled, r"a\.h5ad \(X\) cannot be read"),
    "an empty X": (_instead("X", data=h5py.Empty("f4")), r"a\.h5ad has no X"),
    "a broken link": (_linked("X", h5py.ExternalLink("none.h5", "/X")), r"a\.h5ad.* cannot be read|has no X"),
    "a shape of one": (lambda f: f["X"].attrs.__setitem__("shape", [40]), r"a\.h5ad \(X\) cannot be read"),
    "a shape of text": (lambda f: f["X"].attrs.__setitem__("shape", "foo"), r"a\.h5ad \(X\) cannot be read"),
    "data that is a group": (_instead("X/data"), r"a\.h5ad \(X\) cannot be read"),
    "obs that is a number": (_instead("obs", data=3), r"a\.h5ad \(obs\) cannot be read \(it is no table\)"),
    "obs that is an array": (_instead("obs", data=np.arange(40)), r"a\.h5ad \(obs\) cannot be read \(it is no table\)"),
    "fractions as indices": (
        _instead("X/indices", data=np.full(COUNTS.nnz, 0.5)),
        "indices and row pointers must be whole numbers",
    ),
    "text as indices": (_instead("X/indices", data=np.full(COUNTS.nnz, b"1")), "must be whole numbers"),
    "pointers that are not finite": (_instead("X/indptr", data=np.full(41, np.nan)), "must be whole numbers"),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("read", ["ingest", "inspect"])
@pytest.mark.parametrize("case", H5AD)
def test_h5ad(case, read, tmp_path):
    change, match = H5AD[case]
    _adata().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        change(file)
    _refused(tmp_path / "a.h5ad", read, match, tmp_path)


def _refused(path, read, match, folder):
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=match) as caught:
        ingest(path, folder / "s", columns=Columns()) if read == "ingest" else inspect_files(path)
    assert "\n" not in str(caught.value)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "change", [_instead("layers", data=3), _linked("layers", h5py.SoftLink("/none")), lambda f: f.__setitem__("raw", 3)]
)
def test_odd_groups_that_are_not_needed_do_no_harm(change, tmp_path):
    _adata().write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        change(file)
    assert ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns()).n_cells == 40


@pytest.mark.parametrize("read", ["ingest", "inspect"])
@pytest.mark.parametrize("half", [False, True])
def test_zarr(half, read, tmp_path):
    _adata().write_zarr(tmp_path / "a.zarr")
    chunk = next(path for path in (tmp_path / "a.zarr/X/data").rglob("*") if path.is_file() and "." not in path.name)
    size = chunk.stat().st_size
    chunk.write_bytes(chunk.read_bytes()[: size // 2] if half else b"\xff" * size)
    _refused(tmp_path / "a.zarr", read, r"a\.zarr \(X\) cannot be read", tmp_path)


def _tenx_h5(path):
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(COUNTS, name)
        file["matrix/shape"] = [12, 40]
        file["matrix/barcodes"] = np.array([f"c{i}" for i in range(40)], "S")
        for name in ("id", "name"):
            file[f"matrix/features/{name}"] = np.array([f"{name}{i}" for i in range(12)], "S")
        file["matrix/features/feature_type"] = np.array(["Gene Expression"] * 12, "S")


@pytest.mark.parametrize("read", ["ingest", "inspect"])
@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.__delitem__("matrix/features"),
        lambda f: f.__delitem__("matrix/features/name"),
        _instead("matrix/features/name", data=np.array([b"x"])),
        _instead("matrix/features", data=3),
        _instead("matrix/barcodes", data=np.array([b"\xff"] * 40)),
        _instead("matrix/shape", data=3),
        _instead("matrix/data", data=3.0),
    ],
)
def test_tenx_h5(change, read, tmp_path):
    _tenx_h5(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        change(file)
    _refused(tmp_path / "t.h5", read, r"t\.h5 .*cannot be read", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("matrix.mtx", None, r"matrix\.mtx\.gz cannot be read"),
        ("features.tsv", None, r"features\.tsv\.gz cannot be read"),
        ("barcodes.tsv", None, r"barcodes\.tsv\.gz cannot be read"),
        ("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n12 40 1\n0 1 3\n", "mtx.gz: an index lies"),
        ("matrix.mtx", "%%MatrixMarket matrix coordinate integer general\n12 40 1\n", "mtx.gz has 0 entries"),
        (
            "matrix.mtx",
            "%%MatrixMarket matrix coordinate integer general\n12 40 1\n1 1\n",
            "values that are not finite",
        ),
    ],
)
def test_tenx_folder(name, text, match, tmp_path):
    folder = tmp_path / "t"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", COUNTS.T.tocoo().astype(int))
    (folder / "barcodes.tsv").write_text("".join(f"c{i}\n" for i in range(40)))
    (folder / "features.tsv").write_text("".join(f"E{i}\tg{i}\tGene Expression\n" for i in range(12)))
    for file in list(folder.iterdir()):
        packed = gzip.compress(file.read_bytes() if text is None or file.name != name else text.encode())
        if text is None and file.name == name:
            packed = packed[:12] + b"\xff" * 18 + packed[30:]
        (folder / f"{file.name}.gz").write_bytes(packed)
        file.unlink()
    _refused(folder, "ingest", match, tmp_path)
    with pytest.raises(InputError) as caught:
        ingest(folder, tmp_path / "s", columns=Columns())
    assert str(caught.value).count("cannot be read") <= 1  # no message inside another one


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">i4", ">f8"])
@pytest.mark.parametrize("layout", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, lambda x: x.toarray()])
def test_every_kind_of_number_is_read(kind, layout, tmp_path):
    _adata(layout(COUNTS)).write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        name = "X" if isinstance(file["X"], h5py.Dataset) else "X/data"
        values, attributes = file[name][:], dict(file[name].attrs)
        del file[name]
        file[name] = values.astype(kind)
        file[name].attrs.update(attributes)
    assert inspect_files(tmp_path / "a.h5ad").ready
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    assert (store.counts(store.stored_row) != COUNTS).nnz == 0


def test_a_full_disk_and_a_lack_of_memory_are_not_the_files_fault():
    for raised in (OSError(errno.ENOSPC, "No space left on device"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(raised)) as caught, reading("a.h5ad (X)"):
            raise raised
        assert caught.value is raised


def test_counts_in_a_layer_are_taken_where_there_is_no_x(tmp_path):
    whole = _adata()
    anndata.AnnData(obs=whole.obs, var=whole.var, layers={"counts": COUNTS}).write_h5ad(tmp_path / "a.h5ad")
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns())
    assert (store.counts(store.stored_row) != COUNTS).nnz == 0
    assert "X holds nothing; counts holds raw counts" in store.manifest["notes"][0]


@pytest.mark.parametrize("value", [1e19, 1e300])
def test_labels_beyond_whole_numbers_are_text(value, tmp_path):
    adata = _adata()
    adata.obs["cell_type"] = np.where(np.arange(40) % 2, value, 2 * value)
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert inspect_files(tmp_path / "a.h5ad").ready
    store = ingest(tmp_path / "a.h5ad", tmp_path / "s", columns=Columns(context=("cell_type",)))
    assert set(store.obs["cell_type"]) == {str(value), str(2 * value)}
