import pytest

from data_pipelines import InputError
from experiments.text_table import read_text_table


def test_values_are_text_and_nothing_is_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("line,n\n007,NA\n,1e3\n")
    assert read_text_table(path).to_numpy().tolist() == [["007", "NA"], ["", "1e3"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"a,b\n1,2,3\n", "more values"), (b"", "no csv table"), (b'a\n"x', "no csv table"), (b"\xff\xfe\x80,", "no csv")],
)
def test_what_is_no_table_is_told_with_its_path(text, said, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=f"bad.csv.*{said}"):
        read_text_table(path)
