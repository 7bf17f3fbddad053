"""A table that we export holds no formula, whatever its labels are called."""

import numpy as np
import pandas as pd
import pytest

from experiments.commands.cell_options import write_table
from experiments.spreadsheet import harmless


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "--1"])
def test_what_a_spreadsheet_would_run_is_quoted(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1.5", "+3e-5", "-inf", "a=b", "STAT1", "", "<script>", -1.5, None, 3])
def test_all_else_stays(value):
    assert harmless(value) == value


def test_names_of_cells_columns_and_labels_are_quoted(tmp_path):
    table = pd.DataFrame(
        {"nats": [-1.5, np.nan], "label": pd.Categorical(["=1+1", 'a,"b"\n']), "p(=1)": [0.5, 0.5], "@x": ["-", "-7"]},
        index=pd.Index(["+cell", "-1 x"], name="=cells"),
    )
    write_table(table, tmp_path / "scores.csv")
    found = pd.read_csv(tmp_path / "scores.csv", index_col=0, dtype=str)
    assert found.index.tolist() == ["'+cell", "'-1 x"] and found.index.name == "'=cells"
    assert found.columns.tolist() == ["nats", "label", "p(=1)", "'@x"]
    assert found["label"].tolist() == ["'=1+1", 'a,"b"\n']
    assert found["'@x"].tolist() == ["'-", "-7"]
    assert float(found["nats"].iloc[0]) == -1.5 and list(tmp_path.iterdir()) == [tmp_path / "scores.csv"]
