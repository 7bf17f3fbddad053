"""Every unusable input gives one clear line, and leaves nothing behind."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines import Columns, InputError, ingest
from tests.data_pipelines.conftest import SCREEN


def _refused(files, out, columns, match):
    with pytest.raises(InputError, match=match) as caught:
        ingest(files, out, columns=columns)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if "partial" in path.name]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (0.5, r"fractional values .* 0\.5 at cell 3, gene 1"),
        (-2.0, r"negative values .* -2 at cell 3, gene 1"),
        (np.nan, r"not finite: nan at cell 3, gene 1"),
        (np.inf, r"not finite: inf at cell 3, gene 1"),
        (2.0**31, r"counts above 2147483647"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, np.asarray])
def test_values_that_are_no_counts(value, match, layout, dtype, tmp_path):
    dense = np.ones((6, 3), dtype)
    dense[3, 1] = value
    anndata.AnnData(layout(dense)).write_h5ad(tmp_path / "a.h5ad")
    _refused(tmp_path / "a.h5ad", tmp_path / "s", Columns(), match)


def test_other_slots_are_offered(tmp_path):
    logged = np.log1p(np.ones((4, 3)))
    anndata.AnnData(logged, layers={"umi": logged * 2}).write_h5ad(tmp_path / "a.h5ad")
    _refused(tmp_path / "a.h5ad", tmp_path / "s", Columns(), r"--layer \(this file also has: umi\)")


def test_files_that_are_no_h5ad(screen_file, tmp_path):
    _refused(tmp_path / "none.h5ad", tmp_path / "s", SCREEN, "does not exist")
    (tmp_path / "text.h5ad").write_text("gene,count\n")
    _refused(tmp_path / "text.h5ad", tmp_path / "s", SCREEN, "is not an h5ad file")
    data = screen_file.read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(data[: len(data) // 2])
    _refused(tmp_path / "cut.h5ad", tmp_path / "s", SCREEN, "cut short")
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["x"] = np.ones(3)
    _refused(tmp_path / "other.h5ad", tmp_path / "s", SCREEN, "no AnnData")
    _refused([], tmp_path / "s", SCREEN, "no input given")
    _refused([screen_file, screen_file], tmp_path / "s", SCREEN, "listed twice")


def test_empty_files(screen, tmp_path):
    screen[:0].copy().write_h5ad(tmp_path / "cells.h5ad")
    _refused(tmp_path / "cells.h5ad", tmp_path / "s", SCREEN, "is empty: 0 cells")
    screen[:, :0].copy().write_h5ad(tmp_path / "genes.h5ad")
    _refused(tmp_path / "genes.h5ad", tmp_path / "s", SCREEN, "is empty: .* 0 genes")


def test_columns_and_labels_that_do_not_occur(screen_file, tmp_path):
    missing = Columns(context=("cellline",))
    _refused(screen_file, tmp_path / "s", missing, r"'cellline' \(nearest: cell_line; present: cell_line, target_gene")
    control = Columns(perturbation="target_gene", control=("nontargeting",))
    _refused(screen_file, tmp_path / "s", control, r"'nontargeting' does not occur .*nearest: non-targeting")


def test_inputs_without_a_gene(screen, tmp_path):
    peaks = screen.copy()
    peaks.var["feature_types"] = "Peaks"
    peaks.write_h5ad(tmp_path / "peaks.h5ad")
    _refused(tmp_path / "peaks.h5ad", tmp_path / "s", SCREEN, "no feature of peaks.h5ad is a gene")
    parts = [(0, 10), (0, 5), (5, 10)]
    files = [tmp_path / f"{low}-{high}.h5ad" for low, high in parts]
    for file, (low, high) in zip(files, parts, strict=True):
        screen[:, low:high].copy().write_h5ad(file)
    with pytest.raises(InputError, match=r"no gene is in all of 0-10\.h5ad, 0-5\.h5ad, 5-10\.h5ad"):
        ingest(files, tmp_path / "s", columns=SCREEN, panel="intersection")


@pytest.mark.parametrize("path", ["loop.h5ad", "a\0b.h5ad"])
def test_paths_that_lead_nowhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.h5ad").symlink_to("loop.h5ad")
    _refused(path, tmp_path / "s", SCREEN, "leads nowhere|does not exist")


def test_genes_that_do_not_fit(screen, screen_file, tmp_path):
    other = screen.copy()
    other.var_names = [f"ENSG{i:011d}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "ensembl.h5ad")
    _refused(
        [screen_file, tmp_path / "ensembl.h5ad"],
        tmp_path / "s",
        SCREEN,
        "ensembl.h5ad has no gene in common with the panel",
    )
    twice = anndata.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["a", "b", "a"]))
    twice.write_h5ad(tmp_path / "twice.h5ad")
    _refused(
        tmp_path / "twice.h5ad", tmp_path / "s", Columns(), r"1 duplicate gene names \(a\).*--genes.duplicates sum"
    )
