import numpy as np
import pandas as pd
import pytest

from data_pipelines.errors import InputError
from data_pipelines.target_features import TargetTable, load_targets


def read(path):
    return load_targets(str(path), 4, None, None)


def test_features_are_standardised_over_targets(tmp_path):
    values = np.random.default_rng(0).normal(5.0, 3.0, size=(6, 2))
    np.savez(tmp_path / "f.npz", labels=np.array(list("ABCDEF")), features=values)
    pd.DataFrame(values, index=list("ABCDEF")).rename(columns=str).to_parquet(tmp_path / "indexed.parquet")
    pd.DataFrame(values).rename(columns=str).assign(gene=list("ABCDEF")).to_parquet(tmp_path / "column.parquet")
    expected = (values - values.mean(0)) / values.std(0)
    for name in ("f.npz", "indexed.parquet", "column.parquet"):
        table = read(tmp_path / name)
        assert table.labels == tuple("ABCDEF")
        np.testing.assert_allclose(table.values, expected, rtol=1e-5)


def test_targets_without_features_get_zeros():
    table = TargetTable(("A", "B"), np.array([[1.0], [2.0]], np.float32))
    assert table.of(("B", "Q", "A")).tolist() == [[2.0], [0.0], [1.0]]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"labels": ["A", "A"], "features": [[1.0], [2.0]]}, "lists a target twice"),
        ({"labels": ["A"], "features": [[1.0], [2.0]]}, r"got \(2, 1\) and \(1,\)"),
        ({"labels": ["A", "B"], "features": [[1.0], [np.nan]]}, "finite numbers"),
        ({"labels": ["A", "B"], "features": [["x"], ["y"]]}, "finite numbers"),
        ({"names": ["A"], "features": [[1.0]]}, "must hold the arrays labels and features"),
        ({"labels": [], "features": np.zeros((0, 2))}, "features of no target"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, arrays, match):
    np.savez(tmp_path / "f.npz", **{name: np.array(value) for name, value in arrays.items()})
    with pytest.raises(InputError, match=match):
        read(tmp_path / "f.npz")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "no.npz")
    (tmp_path / "f.csv").write_text("A,1\n")
    with pytest.raises(InputError, match=r"read from \.npz and \.parquet"):
        read(tmp_path / "f.csv")
    (tmp_path / "f.parquet").write_text("A,1\n")
    with pytest.raises(InputError, match="cannot be read as a parquet table"):
        read(tmp_path / "f.parquet")
    (tmp_path / "f.npz").write_text("A,1\n")
    with pytest.raises(InputError, match="must hold the arrays"):
        read(tmp_path / "f.npz")
