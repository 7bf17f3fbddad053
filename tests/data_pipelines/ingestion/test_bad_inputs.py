"""Every bad input that docs/data.md lists gives the message it says, in one line, and leaves nothing behind."""

import pathlib
import re

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import CellStore, Columns, InputError, ingest

DOC = pathlib.Path(__file__).parents[3] / "docs" / "data.md"
PLAIN = Columns()


def _adata(dense=None):
    dense = np.array([[1, 0, 2], [0, 3, 1], [4, 0, 0], [2, 2, 2]]) if dense is None else np.asarray(dense)
    obs = pd.DataFrame({"target": ["ctrl", "KO"] * (len(dense) // 2)}, index=[f"c{i}" for i in range(len(dense))])
    return anndata.AnnData(scipy.sparse.csr_matrix(dense), obs=obs, var=pd.DataFrame(index=list("abc")))


def _file(folder, dense=None, change=None):
    """An h5ad file, changed as an AnnData, or as HDF5 after it was written."""
    path = folder / "a.h5ad"
    _adata(dense).write_h5ad(path)
    if change is not None:
        with h5py.File(path, "r+") as file:
            change(file)
    return path


def _set(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def _attribute(file):
    file["X"].attrs["encoding-type"] = "coo_matrix"


def _text(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def _cut(folder):
    path = _file(folder)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def _other_genes(folder):
    other = _adata()
    other.var_names = ["x", "y", "z"]
    other.write_h5ad(folder / "b.h5ad")
    return [_file(folder), folder / "b.h5ad"]


def _repeated_genes(folder):
    adata = _adata()
    adata.var_names = ["a", "b", "a"]
    adata.write_h5ad(folder / "a.h5ad")
    return folder / "a.h5ad"


def _text_matrix(folder):
    return _file(folder, change=_set("X/data", np.array(["1"] * 9, "S")))


def _tenx(folder, **files):
    (folder / "tenx").mkdir()
    for name, text in files.items():
        (folder / "tenx" / name.replace("_", ".")).write_text(text)
    return folder / "tenx"


MTX = "%%MatrixMarket matrix coordinate integer general\n3 4 3\n1 1 5\n2 2 1\n"
TABLES = {"features_tsv": "A\ta\nB\tb\nC\tc\n", "barcodes_tsv": "w\nx\ny\nz\n"}
KO = Columns(perturbation="target", control=("ctrl",))
INPUTS = {
    "no such file": (lambda f: f / "none.h5ad", PLAIN, "does not exist"),
    "a pattern without a match": (lambda f: f / "none*.h5ad", PLAIN, "matches no file"),
    "no input at all": (lambda f: [], PLAIN, "no input given"),
    "an empty file": (lambda f: _text(f, "a.h5ad", ""), PLAIN, "is not an h5ad file"),
    "a text file": (lambda f: _text(f, "a.h5ad", "gene,count\n"), PLAIN, "is not an h5ad file"),
    "a truncated file": (_cut, PLAIN, "cut short"),
    "HDF5 that is no AnnData": (lambda f: _file(f, change=lambda h: h.__delitem__("obs")), PLAIN, "no AnnData"),
    "a folder of something else": (lambda f: f, PLAIN, "neither zarr nor 10x"),
    "the same file twice": (lambda f: [_file(f), f / "a.h5ad"], PLAIN, "listed twice"),
    "no cells": (lambda f: _file(f, np.zeros((0, 3))), PLAIN, "is empty: 0 cells x 3 genes"),
    "every count zero": (lambda f: _file(f, np.zeros((4, 3))), PLAIN, "every count is zero"),
    "fractional counts": (lambda f: _file(f, np.full((4, 3), 0.5)), PLAIN, "fractional values"),
    "negative counts": (lambda f: _file(f, np.full((4, 3), -1)), PLAIN, "negative values"),
    "NaN": (lambda f: _file(f, np.full((4, 3), np.nan)), PLAIN, "not finite"),
    "counts beyond 32 bits": (lambda f: _file(f, np.full((4, 3), 2**40)), PLAIN, "counts above 2147483647"),
    "text where numbers belong": (_text_matrix, PLAIN, "not numbers"),
    "an unknown matrix layout": (lambda f: _file(f, change=_attribute), PLAIN, "expected CSR, CSC or dense"),
    "a column index outside": (
        lambda f: _file(f, change=_set("X/indices", np.full(8, 7))),
        PLAIN,
        "row pointers do not fit|an index lies outside",
    ),
    "row pointers that do not fit": (
        lambda f: _file(f, change=_set("X/indptr", np.array([0, 9, 2, 3, 5]))),
        PLAIN,
        "row pointers do not fit",
    ),
    "X and obs of other lengths": (
        lambda f: _file(f, change=lambda h: h["X"].attrs.modify("shape", (9, 3))),
        PLAIN,
        "obs and var have 4 and 3",
    ),
    "gene names that repeat": (_repeated_genes, PLAIN, "1 duplicate gene names"),
    "files without a common gene": (_other_genes, PLAIN, "no gene in common"),
    "a missing column": (_file, Columns(context=("donor",)), "no obs column 'donor'"),
    "a number that is none": (_file, Columns(numbers=("target",)), "no finite number"),
    "a control label that does not occur": (_file, Columns(perturbation="target", control=("x",)), "does not occur"),
    "a 10x folder without barcodes": (
        lambda f: _tenx(f, matrix_mtx=MTX, features_tsv=TABLES["features_tsv"]),
        PLAIN,
        "not complete",
    ),
    "a 10x matrix cut short": (lambda f: _tenx(f, matrix_mtx=MTX, **TABLES), PLAIN, "it is cut short"),
    "a 10x matrix of another kind": (
        lambda f: _tenx(f, matrix_mtx="%%MatrixMarket matrix array real general\n3 2 6\n", **TABLES),
        PLAIN,
        "no Matrix Market file of sparse counts",
    ),
    "a manifest with an unknown setting": (
        lambda f: _text(f, "m.yaml", "sources:\n  - path: a.h5ad\n    layr: X\n"),
        PLAIN,
        "unknown setting 'layr'",
    ),
    "a manifest that is no YAML": (lambda f: _text(f, "m.yaml", "sources: ["), PLAIN, "is no YAML"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_bad_inputs(case, tmp_path):
    make, columns, match = INPUTS[case]
    files = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=match) as caught:
        ingest(files, tmp_path / "out" / "s", columns=columns)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def _store(folder):
    return ingest(_file(folder), folder / "s", columns=KO)


def _another_version(folder, monkeypatch):
    _store(folder)
    monkeypatch.setattr("data_pipelines.store.FORMAT", 99)


def _without(name):
    def change(folder, monkeypatch):
        _store(folder)
        (folder / "s" / name).unlink()

    return change


def _half(name):
    def change(folder, monkeypatch):
        _store(folder)
        path = folder / "s" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return change


STORES = {
    "a store of another version": (_another_version, "format 2; this one reads 99"),
    "a store with a missing shard": (_without("X/data/c/0"), r"lacks 1 of its files \(X/data/c/0\)"),
    "a shard that is cut short": (_half("X/indices/c/0"), "is damaged and cannot be read"),
    "a store without its root": (_without("zarr.json"), "is not a cell store"),
}


@pytest.mark.parametrize("case", STORES)
def test_bad_stores(case, tmp_path, monkeypatch):
    change, match = STORES[case]
    change(tmp_path, monkeypatch)
    with pytest.raises(InputError, match=match) as caught:
        CellStore.open(tmp_path / "s").counts([0, 1])
    assert "\n" not in str(caught.value)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    """No space on the device: what is done stays, and the same call goes on once there is room."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    file = _file(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr("data_pipelines.ingestion.runs.np.save", full)
        ingest(file, tmp_path / "s", columns=KO)
    assert not (tmp_path / "s").exists()
    assert ingest(file, tmp_path / "s", columns=KO).n_cells == 4


def test_the_documentation_lists_every_case():
    listed = re.findall(r"^\| ([^|]+) \| `", DOC.read_text(), flags=re.MULTILINE)
    assert sorted(name.strip() for name in listed) == sorted([*INPUTS, *STORES])
    assert len(listed) >= 25
